"""MLflow as a projection of the journal."""

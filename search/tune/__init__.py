"""Ray Tune: workers, the adapters between Tune and the driver, and the patches of Tune."""

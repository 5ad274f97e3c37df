"""What a study is: read from YAML, checked, changed by the command line."""

"""A study kept in another place than this machine: S3, Google's storage, a shared folder."""

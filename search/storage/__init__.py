"""A study stored elsewhere than on this machine: S3, Google's storage, a shared folder."""

"""The published model types that Headway reads and writes, one file per family."""

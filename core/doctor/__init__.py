"""What `headway doctor` finds out about an installation: packages, the machine, storage and the Hub."""

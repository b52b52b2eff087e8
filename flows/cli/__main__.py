"""`python -m flows.cli` runs `halosign`."""

from flows.cli.main import main

main()

"""`python -m flows.cli` is `halosign`."""

from flows.cli.main import main

main()

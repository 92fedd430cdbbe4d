"""The pure core: cells, wheels, facts and a policy make resolutions. No clock, network, environment or file."""

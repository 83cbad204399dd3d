# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What talks to the Docker engine of a host, or speaks of what an engine has.

engine.py       the connection, and what its errors mean
containers.py   what the container of a code server should be, and how one differs
reconcile.py    making the containers of a host as they should be
images.py       what an image should be, on the controller and on the host
image_store.py  the images of an engine: pulled, loaded, built
registry.py     what a registry says of an image before there is an engine
"""

# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What talks to the Docker engine of a host, or speaks of what an engine has.

engine.py       the connection, and what its errors mean
info.py         what an engine says of itself, asked without the SDK
labels.py       what tells ours from what is somebody else's
forms.py        the forms in which options of a container are written
location.py     what the container of a code location should be
state.py        states of containers as plain data, and how two differ
shown.py        the same for an operator
survey.py       what there is on the engine
decide.py       what has to be done for a location, as explicit steps
ports.py        who holds a port
health.py       waiting for a code server
containers.py   what the engine is asked for to make, change and remove a container
reconcile.py    these together: all containers of an engine as they should be
images.py       what an image should be, on the controller and on the host
image_store.py  the images of an engine: pulled, loaded, built
old_images.py   which of them are not needed any more
reference.py    the references of images
registry.py     what a registry says of an image before there is an engine
"""

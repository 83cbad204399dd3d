#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make sure that the images of the code locations are on an engine."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: code_images
short_description: Make sure that the images of the code locations are on a Docker engine
version_added: 0.1.0
author: The dataops.dagster contributors (@dataops)
description:
  - Pulls, builds or loads the image of each code location, once.
  - The name of a built or loaded image follows from its content, C(dagster-code/<name>:<16 hex digits>). The controller
    computes it from the context (without what .dockerignore names), the Dockerfile, the arguments and the base
    archive. When the engine has that name, nothing is sent and nothing is built.
  - Only the executable bit of file modes counts, and all files get the same date. So two checkouts make the same image.
  - The digest does not cover what a Dockerfile takes from elsewhere (C(FROM) a tag that moves, packages). Name
    versions there.
  - The names inside an archive are not kept. If another image of the engine had one of them, it gets it back.
  - An image that was pulled, or copied from another engine, gets a second name (C(dagster-code/<repository>:<16 hex
    digits>)), by which O(keep) knows that it may be removed one day.
  - Registry credentials are those of O(registries), else those in the configuration file of the user that runs the
    module.
  - An action plugin does the controller's part. The options name files of the controller.
requirements:
  - "docker (Docker SDK for Python) >= 5.0.3 on the managed host; python3-docker of Debian 12 and 13 are both fine"
attributes:
  check_mode:
    description: Can run in check mode and return what would be changed without changing it.
    support: full
    details: On a host that has no engine yet, every image is reported as to be made.
  diff_mode:
    description: Names the images that come, and those that O(keep) removes.
    support: full
options:
  docker_host:
    description: The address of the Docker engine.
    type: str
    default: unix:///run/docker.sock
  images:
    description: The wanted images, each from exactly one source.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the code location.
        type: str
        required: true
      image:
        description: A reference in a registry, by tag or by digest.
        type: str
      pull:
        description:
          - When to pull O(images[].image). V(always) asks the registry for its digest, and pulls when the engine has
            another one. Check mode asks too. V(never) asks no registry, and the engine has to have the image.
          - With V(always) and with a digest, C(ref) of RV(images) is our own name for the content
            (C(dagster-code/<repository>:<16 hex digits>)). Every engine can have that name, and it does not move.
        type: str
        choices: [always, missing, never]
        default: missing
      from_registry:
        description:
          - Whether O(images[].image) has to have come from its registry, so that pods of a Kubernetes cluster can
            pull it, too. One that was built on the engine under such a name is refused.
        type: bool
        default: false
        version_added: 0.2.0
      build:
        description: Build the image on the engine with its classic builder.
        type: dict
        suboptions:
          context:
            description: The folder of the build context on the controller.
            type: path
            required: true
          dockerfile:
            description: The Dockerfile, relative to the context and inside it.
            type: str
            default: Dockerfile
          args:
            description: Build arguments. The image's history shows them, so they must not be secrets.
            type: dict
            default: {}
          base_archive:
            description: An image archive on the controller (docker save), loaded before the build for its C(FROM).
            type: path
      archive:
        description: An image archive on the controller (docker save) that holds the image.
        type: path
  registries:
    description:
      - Logins of registries. Each goes with the requests to the engine, and no file of the host has it.
      - For a registry that is not named here, the login of the user that runs the module is used (docker login).
    type: list
    elements: dict
    default: []
    version_added: 0.2.0
    suboptions:
      address:
        description: The registry as references begin, such as V(registry.example.com:5000), or V(docker.io).
        type: str
        required: true
      username:
        description: The name of the login.
        type: str
        required: true
      password:
        description: The password or token.
        type: str
        required: true
  begin:
    description:
      - Begin to build in the background, and return as soon as contexts and base archives are on the host. Other images
        are left alone. Each later call waits for the end. It builds again, and says why, what could not be built.
    type: bool
    default: false
    version_added: 0.2.0
  verify_only:
    description:
      - Only check that the images are available, and change nothing. Contexts, Dockerfiles and archives must exist on
        the controller. References must be on the engine or known to their registry.
      - When the host has no engine (or no SDK) yet, the host asks the registry itself. RV(unverified) returns what
        could not be checked, such as a reference that needs a login which O(registries) does not have.
    type: bool
    default: false
  keep:
    description:
      - The reference of the image of each location of the instance, also of those that other hosts serve. Of the images
        that this module has built, loaded or pulled, each of these stays, and the one that was used before it. The
        others are removed, unless a container has them. The last image of a location that is gone stays.
      - The engine keeps the record, as C(dagster-code-current:<name>) and C(dagster-code-previous:<name>).
      - Call it once the code servers of all hosts serve these images. A run starts with the image of its code server,
        which may be on another host. RV(dataops.dagster.code_containers#module:old_images) says whether there is
        something to do.
      - The other options of such a call have no effect, except O(docker_host).
    type: dict
    version_added: 0.2.0
  export:
    description: Images of this engine to save as archives on the controller, so that other engines can load them.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: The ID of the image.
        type: str
        required: true
      ref:
        description: The reference of the image, so that the archive holds the name as well.
        type: str
      path:
        description: The archive to write on the controller.
        type: path
        required: true
  load:
    description:
      - Images to load into this engine from archives of the controller, unless the engine has their ID already.
      - Without O(load[].path) nothing is loaded. RV(missing) returns the references that the engine lacks.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: The ID that the image has after loading.
        type: str
        required: true
      ref:
        description: The reference that the image gets.
        type: str
        required: true
      path:
        description: The archive on the controller.
        type: path
  instance:
    description:
      - Also show that runs can open the instance in each image of O(images), because a run opens it there. A container
        of the image, without network, imports the classes of this C(dagster.yaml), processes their configuration and
        builds the objects. A library that is missing is refused, and a Dagster that the services do not support.
      - An image is asked again only when O(instance) changes. Check mode starts no container.
    type: dict
    version_added: 0.2.0
    suboptions:
      dagster_yaml:
        description: The text of what runs read of C(dagster.yaml), without secrets.
        type: str
        required: true
      dagster_version:
        description: The version of webservers and daemon.
        type: str
        required: true
      written:
        description: The sections that the user has written, to be named as theirs.
        type: list
        elements: str
        default: []
      env:
        description: The environment of all runs.
        type: dict
        default: {}
      location_env:
        description: What else the runs of a location have in their environment, by its name.
        type: dict
        default: {}
      steps:
        description: What runs of locations read that start their steps (docker_executor), instead of the same above.
        type: dict
        suboptions:
          dagster_yaml: {description: The text of what these runs read., type: str, required: true}
          written: {description: The sections that the user has written., type: list, elements: str, default: []}
          locations: {description: The names of these locations., type: list, elements: str, required: true}
      record:
        description: The file on the host that remembers what has been shown.
        type: path
        required: true
  proxy:
    description: Proxy of builds, and of a bare host that asks a registry. An engine pulls by its own settings.
    type: dict
    default: {}
    suboptions:
      http: {description: URL of the proxy for http., type: str}
      https: {description: URL of the proxy for https. By default the one for http., type: str}
      no_proxy: {description: "What is reached without it, with commas between.", type: str}
  staged:
    description: What the action plugin worked out and transferred. Do not set it by hand.
    type: dict
"""

EXAMPLES = r"""
- name: Provide the images of all code locations
  dataops.dagster.code_images:
    images:
      - name: analytics
        image: registry.example.com/analytics:1.4.2
      - name: marketing
        build:
          context: "{{ playbook_dir }}/../code/marketing"
          args: {PYTHON_VERSION: 3.11}
          base_archive: images/python-base.tar
      - name: finance
        archive: images/finance.tar
  register: code_images

- name: Refuse an image that does not exist, before anything is changed
  dataops.dagster.code_images:
    verify_only: true
    images:
      - name: analytics
        image: registry.example.com/analytics:1.4.2

- name: Remove the images that no location needs any more
  dataops.dagster.code_images:
    keep: {analytics: "{{ code_images.images.analytics.ref }}"}

- name: Ask another engine which of them it lacks
  dataops.dagster.code_images:
    load: [{id: "{{ code_images.images.marketing.id }}", ref: "{{ code_images.images.marketing.ref }}"}]
  register: lacking

- name: Save it from the engine where it was built
  dataops.dagster.code_images:
    export:
      - id: "{{ code_images.images.marketing.id }}"
        ref: "{{ code_images.images.marketing.ref }}"
        path: /tmp/marketing.tar

- name: Load it into the other engine
  dataops.dagster.code_images:
    load:
      - id: "{{ code_images.images.marketing.id }}"
        ref: "{{ code_images.images.marketing.ref }}"
        path: /tmp/marketing.tar
"""

RETURN = r"""
images:
  description:
    - For each name in O(images) a dictionary with C(ref) (the reference to use), C(id) (the image ID; null if it is not
      on the engine yet, as in check mode) and C(action) (V(none), V(pulled), V(built) or V(loaded)).
    - With O(images[].pull=always) there is C(digest), what the registry has. With C(action=none) it is here.
    - An image that came from its registry has C(registry_ref), by which whoever pulls it gets the same content.
  returned: always
  type: dict
  sample:
    marketing:
      ref: dagster-code/marketing:0f3c5a7b9d1e2f40
      id: sha256:dd23bee6a0e0
      action: built
dagster_versions:
  description: The version of Dagster in the image of each location.
  returned: with O(instance)
  type: dict
  version_added: 0.2.0
  sample: {marketing: 1.13.27}
unverified:
  description: References that could not be checked, each with the reason.
  returned: with O(verify_only=true)
  type: dict
  sample:
    analytics: No Docker engine answers at unix:///run/docker.sock
missing:
  description: References that the engine lacks and that were not loaded.
  returned: with O(load)
  type: list
  elements: str
  sample: ["dagster-code/marketing:0f3c5a7b9d1e2f40"]
loaded:
  description: References that were loaded or tagged, or would be in check mode.
  returned: with O(load)
  type: list
  elements: str
  sample: []
removed_images:
  description: The names of the images that were removed, or would be in check mode.
  returned: with O(keep)
  type: list
  elements: str
  sample: ["dagster-code/analytics:0f3c5a7b9d1e2f40"]
exported:
  description: Archives that were written on the controller.
  returned: with O(export)
  type: list
  elements: str
  sample: [/tmp/marketing.tar]
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils._docker import background, image_store
from ..module_utils._docker.engine import DOCKER_IMPORT_ERROR, Engine, EngineUnavailable, explain, sdk_errors
from ..module_utils._docker.images import ARGUMENT_SPEC
from ..module_utils._docker.proof import Proofs
from ..module_utils._proxies import variables


def diff(result: dict[str, t.Any]) -> dict[str, str]:
    """The images that come and go."""
    come = [item for item in (result.get("images") or {}).values() if item["action"] != "none"]
    return {
        "before": "".join(f"image {name}\n" for name in result.get("removed_images", ())),
        "after": "".join(f"image {item['ref']} ({item['action']})\n" for item in come),
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    staged: dict[str, t.Any] = module.params["staged"] or {}
    if not staged:
        module.fail_json(
            msg="code_images works through its action plugin: call it as dataops.dagster.code_images, without 'staged'."
        )
    images = staged.get("images") or []
    through = variables(module.params["proxy"], str(module.params["proxy"].get("no_proxy") or ""))
    verify = module.params["verify_only"]
    try:
        if DOCKER_IMPORT_ERROR:
            raise EngineUnavailable(missing_required_lib("docker (Docker SDK for Python, python3-docker on Debian)"))
        registries, start = module.params["registries"], not (module.check_mode or verify)
        engine = Engine(module.params["docker_host"], start=start, registries=registries)
    except EngineUnavailable as error:
        if verify:
            os.environ.update(through)
            problems = image_store.registry_problems(images, module.params["registries"], module.params["docker_host"])
            if problems:
                module.fail_json(msg="\n".join(problems))
            module.exit_json(changed=False, unverified={item["name"]: str(error) for item in images})
        if module.check_mode:
            module.warn(f"No image could be looked up: {error}")
            planned = image_store.on_bare_host(staged)
            module.exit_json(changed=bool(planned["images"]), **planned)
        module.fail_json(msg=str(error), exception=DOCKER_IMPORT_ERROR)
    store = image_store.Store(engine, check_mode=module.check_mode, build_environment=through)
    try:
        if start:
            background.wait_for_others()
        if module.params["begin"] and background.leave(lambda: store.ensure(staged), staged["folder"]):
            module.exit_json(changed=True)
        result = store.verify(images) if verify else store.ensure(staged)
        if module.params["instance"] and not (module.check_mode or result["errors"]):
            verdict = Proofs(engine, module.params["instance"]).prove(result["images"])
            result.update(errors=verdict.errors, dagster_versions=verdict.versions)
            for words in verdict.warnings:
                module.warn(words)
    except sdk_errors() as error:
        module.fail_json(msg=f"The engine at {engine.endpoint} refused: {explain(error)}", changed=store.changed)
    if module._diff:
        result["diff"] = diff(result)
    errors = result.pop("errors")
    if errors:
        module.fail_json(msg="\n".join(errors), changed=store.changed, **result)
    module.exit_json(changed=store.changed, **result)


if __name__ == "__main__":
    main()

# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What talks to the installed Dagster: a program that checks files with it.

Dagster cannot be imported where Ansible modules run, so its own Python runs the program.

    program.py       the text of the program, for a module to run
    carried.py       the beginning of that text: makes the other parts importable there
    check.py         the program: reads the request, writes the answer
    instance.py      dagster.yaml
    workspace.py     workspace.yaml
    schema.py        a value against Dagster's config types
    problems.py      what is found
    no_effects.py    building a class of Dagster must not act
"""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The databases that can be the storage of Dagster, each in a file of its own (a dialect)."""

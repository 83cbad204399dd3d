# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What talks to the API of a Kubernetes cluster that is there: no client library is needed for it."""

"""The CPUs that this process may use: its affinity, and the quotas of the control groups that it is in."""

from __future__ import annotations

import os
from pathlib import Path

from fastxent._kernels import machine

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""


def _quota(group: Path) -> float | None:
    """CPUs that one control group's quota amounts to: version 2's file, or version 1's two."""
    parts = _text(group / "cpu.max").split()
    if not parts:
        parts = [_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")]
    try:
        quota, period = map(int, parts)
        return quota / period if quota > 0 and period > 0 else None
    except ValueError:  # "max", or no quota at all
        return None


def _groups(folder: str) -> list[Path]:
    """A group and those above it; in a container the path may be the host's and lead nowhere, but the root is there."""
    return [Path(folder), *Path(folder).parents]


def cgroup_quota(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """CPUs that the tightest quota of the groups above this process amounts to, rounded up (Linux); None for none.

    A line of `membership` is ``0::/path`` in version 2, ``4:cpu,cpuacct:/path`` in version 1.
    """
    found = [_quota(root), _quota(root / "cpu")]
    for line in _text(membership).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        names = controllers.split(",") if controllers else [""]
        if names != [""] and "cpu" not in names:
            continue
        # version 1 mounts the controllers together and links each of their names to that; version 2 at the root, or
        # at `unified` beside version 1
        for mount in (root, root / "unified") if names == [""] else (root / "cpu", root / controllers):
            found += [_quota(mount / group.relative_to("/")) for group in _groups(path) if group.is_absolute()]
    quotas = [quota for quota in found if quota is not None]
    return max(1, -int(-min(quotas) // 1)) if quotas else None


_quota_at_import = cgroup_quota()


def available_cpus() -> int:
    """CPUs that this process may use: the affinity is the present one, the quota that of the import."""
    cpus = machine.processors()
    if not cpus:  # no OpenMP to ask
        try:
            cpus = len(os.sched_getaffinity(0))
        except AttributeError:  # macOS, Windows
            cpus = os.cpu_count() or 1
    return max(1, min(cpus, _quota_at_import or cpus))

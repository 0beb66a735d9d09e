"""What `asr.network.lanes` makes for compiled code, by name: operations on vectors of `LANES` float32."""

from __future__ import annotations

from typing import Any

from asr.compiler import Deferred

LANES = 16  # float32 that compiled code works on at once

load: Any = Deferred("asr.network.lanes", "make_load")
store: Any = Deferred("asr.network.lanes", "make_store")
spread: Any = Deferred("asr.network.lanes", "make_spread")
add: Any = Deferred("asr.network.lanes", "make_add")
subtract: Any = Deferred("asr.network.lanes", "make_subtract")
multiply: Any = Deferred("asr.network.lanes", "make_multiply")
larger: Any = Deferred("asr.network.lanes", "make_larger")
total: Any = Deferred("asr.network.lanes", "make_total")
log: Any = Deferred("asr.network.lanes", "make_log")

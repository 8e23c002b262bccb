// What tells that a file is the one that was read, without reading it again.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"
#include "base/coding.h"
#include "workspace/tree.h"

namespace holdfast::workspace {

struct Stamp {
  uint64_t inode = 0;
  uint64_t size_bytes = 0;
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;  // cannot be set by who changes a file

  static Stamp Of(const EntryStat& stat) {
    return {stat.inode, stat.size_bytes, stat.mtime_ns, stat.ctime_ns};
  }
  friend bool operator==(const Stamp&, const Stamp&) = default;
};

// How far behind the clock the times of a file system may be: ticks of the kernel, or whole seconds where it
// keeps no smaller ones.
inline int64_t ClockSlackNs(const Stamp& stamp) {
  const bool whole_seconds =
      stamp.mtime_ns % base::kNsPerSecond == 0 && stamp.ctime_ns % base::kNsPerSecond == 0;
  return whole_seconds ? 2 * base::kNsPerSecond : 50 * base::kNsPerMs;
}

// Whether the file could be changed again after `now` and keep this stamp: then the stamp proves nothing.
inline bool IsRacy(const Stamp& stamp, base::UtcTime now) {
  return std::max(stamp.mtime_ns, stamp.ctime_ns) + ClockSlackNs(stamp) >= now.ns;
}

// Whether nothing was changed since `then`.
inline bool IsOlder(const Stamp& stamp, base::UtcTime then) {
  return stamp.ctime_ns + ClockSlackNs(stamp) < then.ns;
}

inline void PutStamp(std::string& out, const Stamp& stamp) {
  base::PutFixed64(out, stamp.inode);
  base::PutFixed64(out, stamp.size_bytes);
  base::PutFixed64(out, static_cast<uint64_t>(stamp.mtime_ns));
  base::PutFixed64(out, static_cast<uint64_t>(stamp.ctime_ns));
}

inline Stamp TakeStamp(base::Decoder& in) {
  Stamp stamp;
  stamp.inode = in.Fixed64();
  stamp.size_bytes = in.Fixed64();
  stamp.mtime_ns = static_cast<int64_t>(in.Fixed64());
  stamp.ctime_ns = static_cast<int64_t>(in.Fixed64());
  return stamp;
}

}  // namespace holdfast::workspace

#include "server/diff_proto.h"

#include <string>

#include "server/proto_value.h"
#include "server/session_proto.h"

namespace holdfast::server {
namespace {

// A mode or a type that is another is a change of what was there.
v1::PathDiff::Change ChangeToProto(const std::string& kind) {
  if (kind == "added") return v1::PathDiff::CHANGE_ADDED;
  if (kind == "deleted") return v1::PathDiff::CHANGE_REMOVED;
  return v1::PathDiff::CHANGE_MODIFIED;
}

}  // namespace

void DiffToProto(const agent::FilesDiff& diff, v1::DiffSessionResponse* out) {
  for (const agent::PathStat& stat : diff.paths) {
    v1::PathDiff& path = *out->add_paths();
    path.set_path(ValidText(stat.path, kPathBytesMax));
    path.set_change(ChangeToProto(stat.kind));
    path.set_added(stat.added);
    path.set_removed(stat.removed);
  }
  out->set_text(ValidText(diff.text, kDiffTextBytesMax));
  out->set_text_truncated(diff.text_cut);
  out->set_added(diff.total.added);
  out->set_removed(diff.total.removed);
}

}  // namespace holdfast::server

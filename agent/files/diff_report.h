// What a session has changed, counted by path and as text.
#pragma once

#include "agent/session_files.h"
#include "base/status.h"
#include "memory/blob_store.h"
#include "workspace/diff.h"

namespace holdfast::agent {

// Of `diff` what is asked for, within the bounds of `request`. Reads contents from `blobs`.
base::StatusOr<FilesDiff> DiffReportOf(workspace::Diff diff, const DiffRequest& request,
                                       memory::BlobStore& blobs);

}  // namespace holdfast::agent

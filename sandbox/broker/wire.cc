#include "sandbox/broker/wire.h"

namespace holdfast::sandbox::wire {

void Writer::String(std::string_view value) {
  U32(static_cast<uint32_t>(value.size()));
  bytes_.append(value);
}

void Writer::Strings(const std::vector<std::string>& values) {
  U32(static_cast<uint32_t>(values.size()));
  for (const std::string& value : values) String(value);
}

bool Reader::Bool() { return Below(U8(), 2) == 1; }

uint32_t Reader::Below(uint32_t value, uint32_t end) {
  if (value >= end) good_ = false;
  return good_ ? value : 0;
}

size_t Reader::Count(size_t max) {
  const uint32_t count = U32();
  // An entry takes a byte at least, so a count beyond the rest is a lie, found before anything is allocated.
  if (count > max || count > rest_.size()) good_ = false;
  return good_ ? count : 0;
}

std::string Reader::String(size_t bytes_max) {
  const size_t size = Count(bytes_max);
  if (!good_) return {};
  std::string value(rest_.substr(0, size));
  // What is read here becomes a path, an argument or a variable: a C string in the end.
  if (value.find('\0') != std::string::npos) good_ = false;
  rest_.remove_prefix(size);
  return value;
}

std::vector<std::string> Reader::Strings() {
  std::vector<std::string> values(Count());
  for (std::string& value : values) {
    value = String();
    if (!good_) return {};
  }
  return values;
}

namespace {

template <typename E>
E ReadEnum(Reader& in, E end) {
  return static_cast<E>(in.Below(in.U32(), static_cast<uint32_t>(end)));
}

void Write(Writer& out, const LimitSpec& v) {
  for (uint64_t n : {v.wall_ms, v.cpu_ms, v.memory_bytes, v.processes, v.open_files, v.file_bytes,
                     v.disk_bytes, v.disk_inodes, v.kill_grace_ms}) {
    out.U64(n);
  }
}

void Read(Reader& in, LimitSpec& v) {
  for (uint64_t* n : {&v.wall_ms, &v.cpu_ms, &v.memory_bytes, &v.processes, &v.open_files, &v.file_bytes,
                      &v.disk_bytes, &v.disk_inodes, &v.kill_grace_ms}) {
    *n = in.U64();
  }
}

}  // namespace

std::string Encode(const Hello& v) {
  Writer out;
  out.U32(v.broker_version);
  out.Bool(v.root);
  out.U32(v.landlock_abi);
  out.String(v.cgroups);
  return out.Take();
}

bool Decode(std::string_view bytes, Hello& v) {
  Reader in(bytes);
  v.broker_version = in.U32();
  v.root = in.Bool();
  v.landlock_abi = in.U32();
  v.cgroups = in.String();
  return in.Done();
}

std::string Encode(const SessionSpec& v) {
  Writer out;
  out.U8(static_cast<uint8_t>(v.backend));
  for (bool b :
       {v.host_network, v.overlay, v.allow_debugging, v.unix_sockets, v.use_cgroups, v.use_landlock}) {
    out.Bool(b);
  }
  out.String(v.workspace_host);
  out.String(v.workspace_inside);
  out.String(v.layer);
  out.U32(static_cast<uint32_t>(v.mounts.size()));
  for (const MountEntry& mount : v.mounts) {
    out.U8(static_cast<uint8_t>(mount.kind));
    out.Bool(mount.required);
    out.String(mount.host);
    out.String(mount.inside);
  }
  for (uint64_t n : {v.tmp_bytes, v.tmp_inodes, v.shm_bytes, v.home_bytes}) out.U64(n);
  out.U32(v.required_layers);
  out.U32(v.setup_ms);
  return out.Take();
}

bool Decode(std::string_view bytes, SessionSpec& v) {
  Reader in(bytes);
  v.backend = static_cast<Backend>(in.Below(in.U8(), 2));
  for (bool* b :
       {&v.host_network, &v.overlay, &v.allow_debugging, &v.unix_sockets, &v.use_cgroups, &v.use_landlock}) {
    *b = in.Bool();
  }
  v.workspace_host = in.String(4096);
  v.workspace_inside = in.String(4096);
  v.layer = in.String(4096);
  v.mounts.resize(in.Count(1024));
  for (MountEntry& mount : v.mounts) {
    mount.kind = static_cast<MountKind>(in.Below(in.U8(), 4));
    mount.required = in.Bool();
    mount.host = in.String(4096);
    mount.inside = in.String(4096);
  }
  for (uint64_t* n : {&v.tmp_bytes, &v.tmp_inodes, &v.shm_bytes, &v.home_bytes}) *n = in.U64();
  v.required_layers = in.U32();
  v.setup_ms = in.U32();
  return in.Done();
}

std::string Encode(const SessionReady& v) {
  Writer out;
  out.U32(v.layers);
  out.U32(v.landlock_abi);
  out.U32(v.host_uid);
  out.U32(v.host_gid);
  out.String(v.notes);
  return out.Take();
}

bool Decode(std::string_view bytes, SessionReady& v) {
  Reader in(bytes);
  v.layers = in.U32();
  v.landlock_abi = in.U32();
  v.host_uid = in.U32();
  v.host_gid = in.U32();
  v.notes = in.String();
  return in.Done();
}

std::string Encode(const JobSpec& v) {
  Writer out;
  out.U64(v.session);
  out.Strings(v.argv);
  out.Strings(v.environment);
  out.String(v.directory);
  out.Bool(v.terminal);
  out.U16(v.rows);
  out.U16(v.columns);
  Write(out, v.limits);
  return out.Take();
}

bool Decode(std::string_view bytes, JobSpec& v) {
  Reader in(bytes);
  v.session = in.U64();
  v.argv = in.Strings();
  v.environment = in.Strings();
  v.directory = in.String(4096);
  v.terminal = in.Bool();
  v.rows = in.U16();
  v.columns = in.U16();
  Read(in, v.limits);
  return in.Done() && !v.argv.empty();
}

std::string Encode(const JobReady& v) {
  Writer out;
  out.U32(v.layers);
  return out.Take();
}

bool Decode(std::string_view bytes, JobReady& v) {
  Reader in(bytes);
  v.layers = in.U32();
  return in.Done();
}

std::string Encode(const JobExit& v) {
  Writer out;
  out.U32(static_cast<uint32_t>(v.wait_status));
  out.U64(v.cpu_us);
  out.U64(v.peak_rss_bytes);
  return out.Take();
}

bool Decode(std::string_view bytes, JobExit& v) {
  Reader in(bytes);
  v.wait_status = static_cast<int32_t>(in.U32());
  v.cpu_us = in.U64();
  v.peak_rss_bytes = in.U64();
  return in.Done();
}

std::string Encode(const JobEnd& v) {
  Writer out;
  out.Bool(v.has_status);
  out.U32(static_cast<uint32_t>(v.wait_status));
  out.U32(static_cast<uint32_t>(v.cause));
  for (bool b : {v.stopped, v.process_limit_reached, v.unkillable}) out.Bool(b);
  for (uint64_t n : {v.wall_us, v.cpu_us, v.peak_memory_bytes}) out.U64(n);
  out.U32(v.layers);
  return out.Take();
}

bool Decode(std::string_view bytes, JobEnd& v) {
  Reader in(bytes);
  v.has_status = in.Bool();
  v.wait_status = static_cast<int32_t>(in.U32());
  v.cause = ReadEnum(in, EndCause::kEnd);
  for (bool* b : {&v.stopped, &v.process_limit_reached, &v.unkillable}) *b = in.Bool();
  for (uint64_t* n : {&v.wall_us, &v.cpu_us, &v.peak_memory_bytes}) *n = in.U64();
  v.layers = in.U32();
  return in.Done();
}

std::string Encode(const KillRequest& v) {
  Writer out;
  out.U32(static_cast<uint32_t>(v.cause));
  out.Bool(v.at_once);
  return out.Take();
}

bool Decode(std::string_view bytes, KillRequest& v) {
  Reader in(bytes);
  v.cause = ReadEnum(in, EndCause::kEnd);
  v.at_once = in.Bool();
  return in.Done();
}

std::string Encode(const Failure& v) {
  Writer out;
  out.U32(static_cast<uint32_t>(v.stage));
  out.U32(static_cast<uint32_t>(v.error));
  out.String(v.detail);
  return out.Take();
}

bool Decode(std::string_view bytes, Failure& v) {
  Reader in(bytes);
  v.stage = ReadEnum(in, Stage::kEnd);
  v.error = static_cast<int32_t>(in.U32());
  v.detail = in.String(16 * 1024);
  return in.Done();
}

std::string EncodeHeader(const Header& header) {
  Writer out;
  out.U32(kMagic);
  out.U16(kVersion);
  out.U16(static_cast<uint16_t>(header.type));
  out.U64(header.id);
  out.U32(header.body_bytes);
  out.U32(header.body_in_descriptor ? 1 : 0);
  return out.Take();
}

bool DecodeHeader(std::string_view bytes, Header& header) {
  Reader in(bytes);
  if (in.U32() != kMagic || in.U16() != kVersion) return false;
  const uint16_t type = in.U16();
  header.id = in.U64();
  header.body_bytes = in.U32();
  const uint32_t flags = in.U32();
  if (type < static_cast<uint16_t>(MessageType::kHello) ||
      type > static_cast<uint16_t>(MessageType::kJobEnded)) {
    return false;
  }
  header.type = static_cast<MessageType>(type);
  header.body_in_descriptor = flags == 1;
  return in.Done() && flags <= 1 && header.body_bytes <= kBodyBytesMax;
}

}  // namespace holdfast::sandbox::wire

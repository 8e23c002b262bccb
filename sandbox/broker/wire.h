// The messages between the runtime, the broker and the processes it makes: version 2.
//
// Every channel is a SOCK_SEQPACKET pair, so a message arrives whole or not at all. A message is a header of
// 24 bytes and a body; numbers are little-endian, strings and lists carry a 32-bit count. A body above
// kInlineBytesMax travels in a sealed memfd, the first descriptor of the message. Nothing on the other side
// is trusted: every count is checked against its bound before anything is allocated, a body must be used up
// exactly, and one bad message ends the channel.
//
// This unit uses the standard library only, since the broker stays small: what it maps is copied for each
// job.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace holdfast::sandbox::wire {

inline constexpr uint32_t kMagic = 0x58425348;  // "HSBX"
inline constexpr uint16_t kVersion = 2;
inline constexpr size_t kHeaderBytes = 24;
inline constexpr size_t kInlineBytesMax = 60 * 1024;
inline constexpr size_t kBodyBytesMax = 4 * 1024 * 1024;
inline constexpr size_t kStringBytesMax = 1024 * 1024;
inline constexpr size_t kListEntriesMax = 65'536;
inline constexpr size_t kDescriptorsMax = 8;

enum class MessageType : uint16_t {
  kHello = 1,      // broker -> runtime, once: Hello
  kOpenSession,    // runtime -> broker: SessionSpec
  kSessionOpened,  // -> runtime: SessionReady, with the handle of the workspace
  kSessionFailed,  // -> runtime: Failure
  kCloseSession,   // runtime -> broker
  kSessionClosed,  // -> runtime
  kStartJob,       // runtime -> broker -> session: JobSpec, with stdin, stdout, stderr unless a terminal
  kJobReady,       // job -> broker: JobReady; with the terminal's master
  kGo,             // broker -> session or job: carry on
  kJobStarted,     // -> runtime: the command runs; with the terminal's master
  kJobFailed,      // -> runtime: Failure
  kKillJob,        // runtime -> broker: KillRequest
  kTerminate,      // broker -> job: SIGTERM to the leader
  kJobStopped,     // job -> broker: the leader was stopped
  kJobExited,      // job -> broker: JobExit
  kJobEnded,       // broker -> runtime: JobEnd
};

// Where something failed; texts for people are in sandbox/client/failure_text.cc.
enum class Stage : uint32_t {
  kNone,
  kProtocol,
  kDescriptors,
  kClone,
  kIdMap,
  kCredentials,
  kLoopback,
  kSources,
  kRoot,
  kProc,
  kDevices,
  kTemporary,
  kWorkspace,
  kOverlay,
  kIdMappedMount,
  kPivot,
  kMasks,
  kCgroup,
  kCapabilities,
  kNoNewPrivileges,
  kLandlock,
  kSeccomp,
  kVerify,
  kTerminal,
  kDirectory,  // from here on the command's own fault
  kExec,
  kDeadline,  // a step took too long
  kGone,      // the process ended without a word
  kEnd,
};

struct Failure {
  Stage stage = Stage::kNone;
  int32_t error = 0;  // errno
  std::string detail;
  bool ok() const { return stage == Stage::kNone; }
};

// Properties in force; a bit each.
enum Layer : uint32_t {
  kLayerUserNamespace = 1u << 0,
  kLayerMountNamespace = 1u << 1,
  kLayerPidNamespace = 1u << 2,
  kLayerJobPidNamespace = 1u << 3,
  kLayerNetNamespace = 1u << 4,
  kLayerIpcNamespace = 1u << 5,
  kLayerUtsNamespace = 1u << 6,
  kLayerCgroupNamespace = 1u << 7,
  kLayerNoCapabilities = 1u << 8,
  kLayerSecurebits = 1u << 9,
  kLayerNoNewPrivileges = 1u << 10,
  kLayerSeccomp = 1u << 11,
  kLayerLandlock = 1u << 12,
  kLayerNonZeroUid = 1u << 13,
  kLayerMinimalRoot = 1u << 14,
  kLayerPrivateProc = 1u << 15,
  kLayerOverlay = 1u << 16,
  kLayerNoNestedUserNamespaces = 1u << 17,
  kLayerMemoryCgroup = 1u << 18,
  kLayerPidsCgroup = 1u << 19,
  kLayerMemoryWatchdog = 1u << 20,
  kLayerProcessRlimit = 1u << 21,
  kLayerDiskWatchdog = 1u << 22,
  kLayerCpuWatchdog = 1u << 23,
};

enum class Backend : uint8_t { kNamespaces = 0, kBubblewrap = 1 };
enum class MountKind : uint8_t { kReadOnly = 0, kReadWrite = 1, kMask = 2, kReadOnlyFollow = 3 };

struct MountEntry {
  MountKind kind = MountKind::kReadOnly;
  bool required = false;
  std::string host;
  std::string inside;
};

struct SessionSpec {
  Backend backend = Backend::kNamespaces;
  bool host_network = false;
  bool overlay = true;
  bool allow_debugging = false;
  bool unix_sockets = true;
  bool use_cgroups = true;
  bool use_landlock = true;
  std::string workspace_host;
  std::string workspace_inside;
  std::string layer;  // holds upper/ and work/; overlay only
  std::vector<MountEntry> mounts;
  uint64_t tmp_bytes = 0;
  uint64_t tmp_inodes = 0;
  uint64_t shm_bytes = 0;
  uint64_t home_bytes = 0;
  uint32_t required_layers = 0;
  uint32_t setup_ms = 2000;
};

struct SessionReady {
  uint32_t layers = 0;
  uint32_t landlock_abi = 0;
  uint32_t host_uid = 0;  // that the session runs as outside; the broker's word
  uint32_t host_gid = 0;
  std::string notes;  // what is missing, a line each: `layer<TAB>cause`
};

struct LimitSpec {
  uint64_t wall_ms = 0;  // 0: none, here and below
  uint64_t cpu_ms = 0;
  uint64_t memory_bytes = 0;
  uint64_t processes = 0;
  uint64_t open_files = 0;
  uint64_t file_bytes = 0;
  uint64_t disk_bytes = 0;
  uint64_t disk_inodes = 0;
  uint64_t kill_grace_ms = 500;
};

struct JobSpec {
  uint64_t session = 0;
  std::vector<std::string> argv;
  std::vector<std::string> environment;  // NAME=value
  std::string directory;
  bool terminal = false;
  uint16_t rows = 0;
  uint16_t columns = 0;
  LimitSpec limits;
};

struct JobReady {
  uint32_t layers = 0;
};

// Why a job was ended by the broker. kNone: it ended by itself.
enum class EndCause : uint32_t {
  kNone,
  kWall,
  kCpu,
  kIdle,
  kMemory,
  kProcesses,
  kDisk,
  kInodes,
  kOutput,
  kCaller,
  kSession,
  kMachineMemory,
  kEnd
};

struct KillRequest {
  EndCause cause = EndCause::kCaller;
  bool at_once = false;  // no SIGTERM first
};

struct JobExit {
  int32_t wait_status = 0;
  uint64_t cpu_us = 0;
  uint64_t peak_rss_bytes = 0;  // of the largest process
};

struct JobEnd {
  bool has_status = false;  // the leader was waited for
  int32_t wait_status = 0;
  EndCause cause = EndCause::kNone;
  bool stopped = false;
  bool process_limit_reached = false;
  bool unkillable = false;
  uint64_t wall_us = 0;
  uint64_t cpu_us = 0;
  uint64_t peak_memory_bytes = 0;
  uint32_t layers = 0;
};

struct Hello {
  uint32_t broker_version = kVersion;
  bool root = false;
  uint32_t landlock_abi = 0;
  std::string cgroups;  // what was found, for people
};

// --- coding ---------------------------------------------------------------------------------------

class Writer {
 public:
  void U8(uint8_t value) { Put(value); }
  void U16(uint16_t value) { Put(value); }
  void U32(uint32_t value) { Put(value); }
  void U64(uint64_t value) { Put(value); }
  void Bool(bool value) { U8(value ? 1 : 0); }
  void String(std::string_view value);
  void Strings(const std::vector<std::string>& values);
  std::string Take() { return std::move(bytes_); }

 private:
  template <typename T>
  void Put(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) bytes_.push_back(static_cast<char>(value >> (8 * i)));
  }
  std::string bytes_;
};

// The first failure sticks; reads then give zeros. Done() says whether all was read and nothing is left.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  uint8_t U8() { return Get<uint8_t>(); }
  uint16_t U16() { return Get<uint16_t>(); }
  uint32_t U32() { return Get<uint32_t>(); }
  uint64_t U64() { return Get<uint64_t>(); }
  bool Bool();
  std::string String(size_t bytes_max = kStringBytesMax);
  std::vector<std::string> Strings();
  size_t Count(size_t max = kListEntriesMax);
  // A number below `end`.
  uint32_t Below(uint32_t value, uint32_t end);
  bool Done() const { return good_ && rest_.empty(); }
  bool good() const { return good_; }

 private:
  template <typename T>
  T Get() {
    if (!good_ || rest_.size() < sizeof(T)) {
      good_ = false;
      return 0;
    }
    T value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) {
      value =
          static_cast<T>(value | static_cast<T>(static_cast<T>(static_cast<uint8_t>(rest_[i])) << (8 * i)));
    }
    rest_.remove_prefix(sizeof(T));
    return value;
  }
  std::string_view rest_;
  bool good_ = true;
};

std::string Encode(const Hello& value);
std::string Encode(const SessionSpec& value);
std::string Encode(const SessionReady& value);
std::string Encode(const JobSpec& value);
std::string Encode(const JobReady& value);
std::string Encode(const JobExit& value);
std::string Encode(const JobEnd& value);
std::string Encode(const KillRequest& value);
std::string Encode(const Failure& value);

// False when the bytes are not exactly one value within its bounds.
[[nodiscard]] bool Decode(std::string_view bytes, Hello& value);
[[nodiscard]] bool Decode(std::string_view bytes, SessionSpec& value);
[[nodiscard]] bool Decode(std::string_view bytes, SessionReady& value);
[[nodiscard]] bool Decode(std::string_view bytes, JobSpec& value);
[[nodiscard]] bool Decode(std::string_view bytes, JobReady& value);
[[nodiscard]] bool Decode(std::string_view bytes, JobExit& value);
[[nodiscard]] bool Decode(std::string_view bytes, JobEnd& value);
[[nodiscard]] bool Decode(std::string_view bytes, KillRequest& value);
[[nodiscard]] bool Decode(std::string_view bytes, Failure& value);

struct Header {
  MessageType type = MessageType::kHello;
  uint64_t id = 0;  // of the session or job
  uint32_t body_bytes = 0;
  bool body_in_descriptor = false;
};

std::string EncodeHeader(const Header& header);
[[nodiscard]] bool DecodeHeader(std::string_view bytes, Header& header);

}  // namespace holdfast::sandbox::wire

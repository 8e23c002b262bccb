// Attempts to gain privilege, to see or change what lies outside, and to reach other processes. Each test is
// named after the attempt. spec numbers: section 7 of the sandbox notes, as in docs/security.md.
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/securebits.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <thread>

#include "gmock/gmock.h"
#include "sandbox/broker/descriptor.h"
#include "sandbox/sandbox.h"
#include "tests/sandbox/sandbox_testing.h"

namespace holdfast::sandbox {
namespace {

using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;

class EscapeTest : public SandboxTest {
 protected:
  // What an attempt printed: name=result, one a line.
  std::map<std::string, std::string> Attempt(std::vector<std::string> arguments) {
    const Outcome outcome = Guest(std::move(arguments));
    EXPECT_TRUE(outcome.ok()) << Describe(outcome) << "\n" << outcome.output.head;
    return Parse(outcome.output.head);
  }
  static std::map<std::string, std::string> Parse(std::string_view text) {
    std::map<std::string, std::string> results;
    while (!text.empty()) {
      const std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix(std::min(text.size(), line.size() + 1));
      const size_t equals = line.rfind('=');
      if (equals != std::string_view::npos)
        results[std::string(line.substr(0, equals))] = line.substr(equals + 1);
    }
    return results;
  }
};
INSTANTIATE_SANDBOX_TEST(EscapeTest);

// --- files ------------------------------------------------------------------------------------------

TEST_P(EscapeTest, WritingOutsideTheWorkspaceFails) {  // 1
  const auto results =
      Attempt({"write", "/hf-escape", "/etc/hf-escape", "/usr/hf-escape", "/usr/bin/env", "/etc/passwd",
               "/run/hf-escape", "/run/guest", "/dev/hf-escape", "/var/hf-escape"});
  EXPECT_THAT(results, Each(Pair(testing::_, AnyOf("EROFS", "EACCES", "ETXTBSY"))));
  EXPECT_EQ(results.size(), 9u);
  EXPECT_THAT(Attempt({"write", "/workspace/ok", "/tmp/ok", "/agent/ok", "/dev/shm/ok", "/var/tmp/ok"}),
              Each(Pair(testing::_, "OK")));
}

TEST_P(EscapeTest, HomesAndSecretsOfTheHostAreNotThere) {  // 2
  EXPECT_THAT(Attempt({"read", "/root", "/etc/shadow", "/etc/sudoers", "/etc/ssh/ssh_host_rsa_key",
                       "/sys/kernel", "/boot", "/var/log/dpkg.log", "/mnt", "/srv"}),
              Each(Pair(testing::_, "ENOENT")));
  EXPECT_EQ(Shell("ls -A ~ | wc -l; ls -A /home 2>/dev/null | wc -l").output.head, "0\n0\n");
}

TEST_P(EscapeTest, TmpIsPrivateEmptyAndVanishes) {  // 3
  const ScratchDirectory host;
  WriteFileText("/tmp/hf-host-canary", "host");
  EXPECT_EQ(Shell("ls -A /tmp /var/tmp /dev/shm | grep -c canary; echo x > /tmp/mine").output.head, "0\n");
  EXPECT_FALSE(Exists("/tmp/mine"));
  CloseSession();
  EXPECT_EQ(Shell("ls -A /tmp").output.head, "");
  unlink("/tmp/hf-host-canary");
}

TEST_P(EscapeTest, LinkInTheWorkspaceLeadsNowhere) {  // 4
  ASSERT_EQ(symlink("/etc/passwd", (tree() + "/passwd").c_str()), 0);
  ASSERT_EQ(symlink((scratch() + "/outside").c_str(), (tree() + "/outside").c_str()), 0);
  WriteFileText(scratch() + "/outside", "untouched");
  EXPECT_THAT(Attempt({"write", "/workspace/passwd", "/workspace/outside"}),
              Each(Pair(testing::_, AnyOf("EROFS", "EACCES", "ENOENT"))));
  EXPECT_EQ(ReadFileText(scratch() + "/outside"), "untouched");
}

TEST_P(EscapeTest, DotDotAndMagicLinksStayInside) {  // 6, E35
  const std::string own = scratch().substr(1);
  EXPECT_THAT(Attempt({"above-root", "/" + own, "/root", "/etc/shadow"}),
              Each(Pair(testing::_, AnyOf("ENOENT", "EACCES"))));
}

TEST_P(EscapeTest, HardLinkFromOutsideFails) {  // 7
  EXPECT_THAT(Attempt({"hard-link", "/usr/bin/env", "/workspace/env"}),
              Each(Pair(testing::_, AnyOf("EXDEV", "EPERM", "EROFS", "EACCES"))));
}

TEST_P(EscapeTest, RenamedAncestorLeavesTheProtectedPathAlone) {  // 8, E4
  WriteFileText(tree() + "/.git/config", "honest");
  WriteFileText(tree() + "/.git/hooks/pre-commit", "honest");
  Shell(
      "mv .git .git2; mkdir -p .git/hooks; echo evil > .git/config; echo evil > .git/hooks/pre-commit; true");
  CloseSession();
  EXPECT_EQ(ReadFileText(tree() + "/.git/config"), "honest");
  EXPECT_EQ(ReadFileText(tree() + "/.git/hooks/pre-commit"), "honest");
}

TEST_P(EscapeTest, UserNamespaceCannotDetachReadOnlyMounts) {  // 10, E3
  const auto results = Attempt({"detach-through-userns"});
  EXPECT_EQ(results.at("handle"), "OK");
  for (const char* step : {"unshare", "private", "tmpfs", "detach"})
    EXPECT_EQ(results.at(step), "EPERM") << step;
  EXPECT_EQ(results.at("write"), "EROFS");
  EXPECT_FALSE(Exists("/usr/hf-escape"));
}

TEST_P(EscapeTest, ProtectedPathsThatAreMissingAreNotMade) {  // 14, E31
  Shell("true");
  CloseSession();
  StartSandbox();
  OpenSession();
  kill(StartSandbox().broker_pid(), SIGKILL);
  StopSandbox();
  for (const char* name : {".git", ".vscode", ".envrc", ".mcp.json", ".gitmodules"}) {
    EXPECT_FALSE(Exists(tree() + "/" + name)) << name;
  }
}

TEST_P(EscapeTest, DeviceNodesCannotBeMade) {  // 15, in part
  const auto results = Attempt({"nodes", "/workspace"});
  EXPECT_EQ(results.at("block"), "EPERM");
  EXPECT_EQ(results.at("char"), "EPERM");
}

TEST_P(EscapeTest, StrangeNamesOfPathsWork) {  // 64
  Policy policy = DefaultPolicy();
  policy.workspace.host = scratch() + "/a,b:c\\d=e \n\xff\x01";
  ASSERT_EQ(mkdir(policy.workspace.host.c_str(), 0755), 0);
  WriteFileText(policy.workspace.host + "/file", "found\n");
  if (overlay()) policy.workspace.layer = scratch() + "/la,y:er\\ \n\xfe";
  policy.workspace.inside = policy.workspace.host;
  OpenSession(policy);
  EXPECT_EQ(Shell("cat file; echo x > $(printf '%0255d' 0)").output.head, "found\n");
}

// --- privileges and namespaces ----------------------------------------------------------------------

TEST_P(EscapeTest, NoPrivilegeIsLeft) {  // 22, E1
  const auto results = Attempt({"privileges"});
  EXPECT_EQ(results.at("capabilities"), "0");
  EXPECT_EQ(results.at("bounding"), "0");
  EXPECT_EQ(results.at("no_new_privs"), "1");
  EXPECT_EQ(results.at("seccomp"), "2");
  EXPECT_EQ(results.at("euid"), "1000");
  const int locked = SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                     SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
  EXPECT_EQ(std::stoi(results.at("securebits")) & locked, locked);
}

TEST_P(EscapeTest, PrivilegeCannotBeGained) {
  EXPECT_THAT(Attempt({"gain-capability"}), Each(Pair(testing::_, AnyOf("EPERM", "EINVAL"))));
}

TEST_P(EscapeTest, HostUidIsNotZero) {  // 23, E2
  // A file in direct mode shows the id on disk, which the id map turns back; a process shows the real one.
  auto job = OpenSession().Start({.argv = {kGuest, "sleep", scratch()}});
  ASSERT_TRUE(job.ok()) << job.status();
  const std::vector<int> pids = ProcessesWith(scratch());
  ASSERT_EQ(pids.size(), 1u);
  const std::string status = ReadFileText("/proc/" + std::to_string(pids[0]) + "/status");
  EXPECT_THAT(status, Not(HasSubstr("Uid:\t0\t")));
  EXPECT_THAT(status, HasSubstr("CapEff:\t0000000000000000"));
}

TEST_P(EscapeTest, KernelSettingsAreNotWritable) {  // 23, E2
  EXPECT_THAT(Attempt({"open-for-writing", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches",
                       "/proc/sys/kernel/hostname", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger",
                       "/proc/sys/fs/binfmt_misc/register", "/proc/irq/default_smp_affinity",
                       "/proc/1/oom_adj", "/proc/sys/user/max_user_namespaces"}),
              Each(Pair(testing::_, AnyOf("EROFS", "EACCES", "ENOENT", "EPERM"))));
}

TEST_P(EscapeTest, DeniedSystemCallsFail) {  // 24, 30, E12, E16
  for (const auto& [name, result] : Attempt({"denied-calls"})) {
    EXPECT_EQ(result, name == "unknown_call" ? "ENOSYS" : "EPERM") << name;
  }
}

TEST_P(EscapeTest, OrdinarySystemCallsWork) {
  EXPECT_THAT(Attempt({"allowed-calls"}), Each(Pair(testing::_, "OK")));
}

TEST_P(EscapeTest, NewNamespacesAreRefused) {  // 25, E18, E19
  const auto results = Attempt({"new-namespaces"});
  EXPECT_EQ(results.size(), 7u * 4 + 1);
  for (const auto& [name, result] : results) EXPECT_EQ(result, name == "clone3" ? "ENOSYS" : "EPERM") << name;
}

TEST_P(EscapeTest, CallsOfAnotherArchitectureKill) {  // 26, E17
#if defined(__x86_64__)
  const Outcome int80 = Guest({"int80"});
  EXPECT_EQ(int80.ending, Ending::kSignalled) << Describe(int80) << int80.output.head;
  EXPECT_EQ(int80.signal, SIGSYS);
  const Outcome x32 = Guest({"x32"});
  EXPECT_EQ(x32.signal, SIGSYS) << Describe(x32) << x32.output.head;
#endif
}

TEST_P(EscapeTest, OnlyTheJobsProcessesAreInProc) {  // 27, E9
  const Outcome outcome = Guest({"processes"});
  EXPECT_EQ(outcome.output.head, "pid=1\npid=2\n");
  const std::string init = Shell("tr '\\0' ' ' < /proc/1/cmdline; cat /proc/1/environ").output.head;
  EXPECT_THAT(init, Not(HasSubstr(scratch())));
  EXPECT_THAT(init, HasSubstr("Permission denied"));
}

TEST_P(EscapeTest, ProcessOneIsOutOfReach) {  // 28, E10, E28
  for (const auto& [name, result] : Attempt({"attack-init"})) {
    if (name == "alive") {
      EXPECT_EQ(result, "1");
    } else {
      EXPECT_THAT(result, AnyOf("EPERM", "EACCES", "ENOENT")) << name;
    }
  }
  // Should it be taken over all the same, it has no more than the command.
  EXPECT_EQ(Shell("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/1/status | cut -f2 | sort -u | tr '\\n' ' '")
                .output.head,
            "0000000000000000 1 2 ");
  EXPECT_TRUE(Shell("true").ok()) << "the session goes on";
}

TEST_P(EscapeTest, KillingAllHarmsTheJobOnly) {  // 29
  auto other = OpenSession().Start({.argv = {kGuest, "sleep"}});
  ASSERT_TRUE(other.ok());
  Guest({"kill-all"});
  EXPECT_FALSE((*other)->Result().has_value());
  EXPECT_TRUE(Shell("true").ok());
}

TEST_P(EscapeTest, HostKeyringIsNotInherited) {  // 30, E12
  const long key = syscall(SYS_add_key, "user", "hf-test-key", "hunter2", 7, KEY_SPEC_SESSION_KEYRING);
  EXPECT_THAT(Shell("cat /proc/keys /proc/key-users").output.head, Not(HasSubstr("hf-test-key")));
  if (key >= 0) syscall(SYS_keyctl, KEYCTL_UNLINK, key, KEY_SPEC_SESSION_KEYRING, 0, 0);
}

TEST_P(EscapeTest, TerminalInputCannotBePushed) {  // 31, E11
  Command command;
  command.argv = {kGuest, "push-input"};
  command.terminal = TerminalSize{};
  const Outcome outcome = Run(command);
  EXPECT_EQ(outcome.output.head, "tiocsti=EPERM\ntiocsti_high=EPERM\ntioclinux=EPERM\n");
}

TEST_P(EscapeTest, NoDescriptorComesAlong) {  // 32, E8
  // Planted without close-on-exec, before the broker starts and again before the command does.
  const auto plant = [&] {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    return std::array{Descriptor(open("/", O_RDONLY | O_DIRECTORY)), Descriptor(memfd_create("planted", 0)),
                      Descriptor(eventfd(0, 0)), Descriptor(pair[0]), Descriptor(pair[1])};
  };
  const auto before = plant();
  OpenSession();
  const auto after = plant();
  EXPECT_EQ(Guest({"descriptors"}).output.head, "fd=0\nfd=1\nfd=2\n");
  Command terminal;
  terminal.argv = {kGuest, "descriptors"};
  terminal.terminal = TerminalSize{};
  EXPECT_EQ(Run(terminal).output.head, "fd=0\nfd=1\nfd=2\n");
}

TEST_P(EscapeTest, SignalsAreAtTheirDefaults) {  // 33, E27
  // Blocked and ignored here, before the broker starts.
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  const auto before = signal(SIGCHLD, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  StartSandbox();
  EXPECT_EQ(Guest({"signals"}).output.head, "");
  signal(SIGCHLD, before);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

TEST_P(EscapeTest, StartingThreadMayEnd) {  // 34, E26
  std::thread([&] { OpenSession(); }).join();
  base::StatusOr<std::unique_ptr<Job>> job = base::NotFound("not started");
  std::thread([&] {
    job = OpenSession().Start({.argv = {"bash", "-c", "read line; echo $line"}, .keep_input_open = true});
  }).join();
  ASSERT_TRUE(job.ok());
  ASSERT_TRUE((*job)->Write("still here\n").ok());
  const auto outcome = (*job)->Wait(10'000);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->output.head, "still here\n");
}

TEST_P(EscapeTest, NoCoreIsDumped) {  // 36, E36
  const auto results = Attempt({"dump-core"});
  EXPECT_EQ(results.at("raise_core_limit"), "EPERM");
  EXPECT_EQ(results.at("core"), "0");
}

TEST_P(EscapeTest, SetUserIdProgramsGainNothing) {  // 37
  EXPECT_THAT(Attempt({"set-user-id", "/usr", "/bin", "/workspace", "/tmp", "/dev", "/proc", "/agent"}),
              Each(Pair(testing::_, "nosuid")));
  EXPECT_EQ(Shell("su -c id root < /dev/null 2>&1 | grep -c uid=0").output.head, "0\n");
}

TEST_P(EscapeTest, EnvironmentOfTheRuntimeIsNotPassed) {  // 58, E9
  setenv("HF_API_KEY", "hf-secret-in-environment", 1);
  setenv("HF_PLAIN", "plain", 1);
  setenv("LD_PRELOAD_X", "1", 1);
  Policy policy = DefaultPolicy();
  policy.pass_environment = {"HF_PLAIN"};
  policy.set_environment = {{"HF_SET", "set"}};
  OpenSession(policy);
  Command command = ShellCommand("env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'");
  command.environment = {{"HF_SET", "changed"}, {"HF_ADDED", "added"}};
  const std::string text = Run(command).output.head;
  EXPECT_THAT(text, Not(HasSubstr("hf-secret-in-environment")));
  EXPECT_THAT(text, Not(HasSubstr("LD_PRELOAD_X")));
  EXPECT_THAT(text, HasSubstr("HF_PLAIN=plain\n"));
  EXPECT_THAT(text, HasSubstr("HF_SET=set\n"));
  EXPECT_THAT(text, HasSubstr("HF_ADDED=added\n"));
  EXPECT_THAT(text, HasSubstr("PATH=/usr/local/bin:/usr/bin:/bin"));
}

TEST_P(EscapeTest, LandlockIsInForceWhereTheKernelHasIt) {
  if (StartSandbox().host().landlock_abi == 0) GTEST_SKIP() << "the kernel has no Landlock";
  EXPECT_EQ(Attempt({"stack-landlock"}).at("rulesets"), "15") << "one of sixteen is taken";
  CloseSession();
  Policy policy = DefaultPolicy();
  policy.use_landlock = false;
  OpenSession(policy);
  EXPECT_EQ(Attempt({"stack-landlock"}).at("rulesets"), "16");
}

TEST_P(EscapeTest, DebuggingIsAnOptIn) {
  Policy policy = DefaultPolicy();
  policy.debugging = Debugging::kAllowed;
  OpenSession(policy);
  for (const auto& [name, result] : Attempt({"attack-init"})) {
    if (name == "alive") continue;
    EXPECT_THAT(result, AnyOf("EPERM", "EACCES", "ENOENT")) << name << ": process 1 stays out of reach";
  }
}

TEST_P(EscapeTest, JobsOfOneSessionDoNotSeeEachOther) {
  auto other = OpenSession().Start({.argv = {kGuest, "sleep"}});
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(Guest({"processes"}).output.head, "pid=1\npid=2\n");
}

TEST_P(EscapeTest, TerminalsOfOtherJobsAreNotThere) {
  Command command;
  command.argv = {kGuest, "sleep"};
  command.terminal = TerminalSize{};
  auto other = OpenSession().Start(command);
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(Shell("ls /dev/pts").output.head, "ptmx\n");
}

// --- network ----------------------------------------------------------------------------------------

TEST_P(EscapeTest, OnlyOrdinaryFamiliesOfSocketsExist) {  // 38, E15
  const Outcome outcome = Guest({"families"});
  EXPECT_EQ(outcome.output.head, "family=1\nfamily=2\nfamily=10\nfamily=16\nvsock_high=EPERM\nhuge=EPERM\n");
}

TEST_P(EscapeTest, RawSocketsAreRefused) {  // 38
  for (const auto& [name, result] : Attempt({"raw-sockets"})) {
    if (name == "netlink_route") {
      EXPECT_EQ(result, "OK");
    } else {
      EXPECT_EQ(result, "EPERM") << name;
    }
  }
}

// A listening socket of the host, TCP on loopback.
class HostServer {
 public:
  HostServer() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    at_.sin_family = AF_INET;
    at_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(at_);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&at_), sizeof(at_)), 0);
    EXPECT_EQ(listen(fd_.get(), 8), 0);
    getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&at_), &length);
  }
  std::string port() const { return std::to_string(ntohs(at_.sin_port)); }

 private:
  Descriptor fd_;
  sockaddr_in at_ = {};
};

TEST_P(EscapeTest, HostLoopbackIsUnreachable) {  // 39
  const HostServer server;
  EXPECT_EQ(Attempt({"connect-tcp", "127.0.0.1", server.port()}).at("tcp"), "ECONNREFUSED");
  EXPECT_EQ(Attempt({"connect-tcp", "192.0.2.1", "80"}).at("tcp"), "ENETUNREACH");
  EXPECT_EQ(Attempt({"connect-udp", "192.0.2.1", "53"}).at("udp"), "ENETUNREACH");
  EXPECT_THAT(Shell("echo > /dev/tcp/127.0.0.1/" + server.port()).output.head, HasSubstr("refused"));
}

TEST_P(EscapeTest, OwnLoopbackServerWorks) {
  EXPECT_THAT(Attempt({"own-server"}), Each(Pair(testing::_, "OK")));
}

TEST_P(EscapeTest, HostUnixSocketsAreUnreachable) {  // 39, 40, E13, E14
  const Descriptor abstract(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const Descriptor path(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un at = {};
  at.sun_family = AF_UNIX;
  const std::string name = "hf-abstract-" + std::to_string(getpid());
  std::memcpy(at.sun_path + 1, name.c_str(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  ASSERT_EQ(bind(abstract.get(), reinterpret_cast<sockaddr*>(&at), length), 0);
  ASSERT_EQ(listen(abstract.get(), 1), 0);
  at = {};
  at.sun_family = AF_UNIX;
  const std::string place = scratch() + "/daemon.sock";
  std::strncpy(at.sun_path, place.c_str(), sizeof(at.sun_path) - 1);
  ASSERT_EQ(bind(path.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
  ASSERT_EQ(listen(path.get(), 1), 0);
  const auto results = Attempt({"connect-unix", name, place, "/run/docker.sock", "/var/run/docker.sock",
                                "/run/dbus/system_bus_socket", "/tmp/.X11-unix/X0"});
  for (const auto& [socket_name, result] : results) {
    EXPECT_EQ(result, socket_name == name ? "ECONNREFUSED" : "ENOENT") << socket_name;
  }
}

TEST_P(EscapeTest, UnixSocketsCanBeRefusedAltogether) {
  Policy policy = DefaultPolicy();
  policy.unix_sockets = UnixSockets::kRefused;
  OpenSession(policy);
  EXPECT_EQ(Attempt({"connect-unix", "/x"}).at("/x"), "EPERM");
}

TEST_P(EscapeTest, NamesDoNotResolve) {  // 41, E20: there is nothing to send a query with
  EXPECT_THAT(Shell("getent hosts example.com; echo rc=$?; cat /etc/resolv.conf").output.head,
              HasSubstr("rc=2\ncat: /etc/resolv.conf: No such file"));
  EXPECT_EQ(Shell("cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '").output.head, "lo\n");
}

}  // namespace
}  // namespace holdfast::sandbox

// What is asked for twice with one request id acts once: in turn, at once, and with a crash in between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "agent/session_manager.h"
#include "tests/agent/manager_testing.h"

namespace holdfast::agent {
namespace {

using sessions::InputKind;
using sessions::SessionRow;
using sessions::SessionState;

// What a method answers, as text; of one that makes a session, its id.
using Answer = base::StatusOr<std::string>;
using Answered = std::function<void(Answer)>;

struct Method {
  std::string name;
  std::function<void(SessionManager&, const Target&, Answered)> ask;
  bool makes = false;  // a session, which has the request then
};

SessionManager::Seq Numbered(const Answered& done) {
  return [done](const base::StatusOr<uint64_t>& seq) {
    done(seq.ok() ? Answer(std::to_string(*seq)) : Answer(seq.status()));
  };
}

absl::AnyInvocable<void(base::StatusOr<SessionRow>)> Named(const Answered& done) {
  return [done](const base::StatusOr<SessionRow>& row) {
    done(row.ok() ? Answer(row->id + (row->archived ? "*" : "")) : Answer(row.status()));
  };
}

std::vector<Method> Methods() {
  using Manager = SessionManager;
  return {
      {"create",
       [](Manager& m, const Target& t, Answered done) {
         m.Create({.request_id = t.request_id, .profile = ManagerWorld::Profile(), .message = "go"},
                  Named(done));
       },
       true},
      {"fork", [](Manager& m, const Target& t, Answered done) { m.Fork(t, 0, "", Named(done)); }, true},
      {"send",
       [](Manager& m, const Target& t, Answered done) {
         m.Send(t.id, {.request_id = t.request_id, .text = "more"}, Numbered(done));
       }},
      {"interrupt",
       [](Manager& m, const Target& t, Answered done) {
         m.Send(t.id, {.kind = InputKind::kInterrupt, .request_id = t.request_id}, Numbered(done));
       }},
      {"rewind", [](Manager& m, const Target& t, Answered done) { m.Rewind(t, 4, Numbered(done)); }},
      {"undo", [](Manager& m, const Target& t, Answered done) { m.Undo(t, Numbered(done)); }},
      {"set_goal",
       [](Manager& m, const Target& t, Answered done) { m.SetGoal(t, {.text = "another"}, Numbered(done)); }},
      {"set_budgets",
       [](Manager& m, const Target& t, Answered done) { m.SetBudgets(t, {.calls = 7}, Numbered(done)); }},
      {"cancel_goal", [](Manager& m, const Target& t, Answered done) { m.CancelGoal(t, Numbered(done)); }},
      {"set_display_name",
       [](Manager& m, const Target& t, Answered done) { m.SetDisplayName(t, "Name", Numbered(done)); }},
      {"pause", [](Manager& m, const Target& t, Answered done) { m.Pause(t, Numbered(done)); }},
      {"resume", [](Manager& m, const Target& t, Answered done) { m.Resume(t, Numbered(done)); }},
      {"apply",
       [](Manager& m, const Target& t, Answered done) {
         m.Apply(t, {}, [done](const base::StatusOr<FilesReport>& report) {
           done(report.ok() ? Answer(std::to_string(report->applied) + " " + report->text)
                            : Answer(report.status()));
         });
       }},
      {"discard", [](Manager& m, const Target& t, Answered done) { m.Discard(t, Numbered(done)); }},
      {"archive", [](Manager& m, const Target& t, Answered done) { m.Archive(t, Named(done)); }},
      {"unarchive", [](Manager& m, const Target& t, Answered done) { m.Unarchive(t, Named(done)); }},
  };
}

// A machine with session "s": two messages, a goal that is paused for its budget, and a file in its layer.
struct Place {
  Place()
      : world([](const std::string& told) -> Reply {
          if (told.find("lines\n") != std::string::npos) return {.text = "done"};
          return {.calls = {{"append", R"({"path": "f", "text": "x"})"}}};
        }) {
    EXPECT_TRUE(world.Boot());
    NewSession session{.id = "s", .profile = ManagerWorld::Profile(), .message = "go"};
    session.goal = GoalSet{.text = "write", .checks = {{.command = "has f y"}}, .budgets = {.calls = 1}};
    EXPECT_TRUE(world.Create(session).ok());
    EXPECT_TRUE(world.RunUntilState("s", {SessionState::kPaused}));
  }

  Answer Ask(const Method& method, const Target& target) {
    return world.Ask<std::string>([&](auto done) {
      // Shared: what a method is given can be copied.
      method.ask(world.manager(), target,
                 [to = std::make_shared<decltype(done)>(std::move(done))](  // shared: see above
                     Answer answer) { (*to)(std::move(answer)); });
    });
  }

  // Of a request, in the log of the session that has it.
  int TimesDone(const Method& method, const std::string& answer, const std::string& request_id) {
    int times = 0;
    for (const sessions::Event& event : world.Events(method.makes ? answer : "s")) {
      const auto* done = std::get_if<sessions::RequestDone>(&event.body);
      times += done != nullptr && done->request_id == request_id ? 1 : 0;
    }
    return times;
  }

  ManagerWorld world;
};

TEST(SessionRequestsTest, ARepeatIsAnsweredAsTheFirstAndActsNoSecondTime) {
  Place place;
  for (const Method& method : Methods()) {
    SCOPED_TRACE(method.name);
    const Target target{"s", "r-" + method.name};
    // Whatever the methods before have made of it.
    ASSERT_TRUE(place.Ask(Methods()[11], {"s"}).ok());
    if (method.name == "set_budgets" || method.name == "cancel_goal") {
      ASSERT_TRUE(place.Ask(Methods()[6], {"s"}).ok());
    }
    if (method.name != "pause") {
      ASSERT_TRUE(place.Ask(Methods()[10], {"s"}).ok());
    }
    const Answer first = place.Ask(method, target);
    ASSERT_TRUE(first.ok()) << first.status();
    ASSERT_TRUE(place.Ask(Methods()[10], {"s"}).ok());  // paused: nothing is added but by what is asked
    const size_t events = place.world.Events("s").size();
    const Answer again = place.Ask(method, target);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(*again, *first);
    EXPECT_EQ(place.world.Events("s").size(), events);
    EXPECT_EQ(place.TimesDone(method, *first, target.request_id), 1);
  }
}

TEST(SessionRequestsTest, ARepeatWaitsForTheFirst) {
  for (const Method& method : Methods()) {
    SCOPED_TRACE(method.name);
    Place place;
    std::vector<Answer> answers;
    for (int i = 0; i < 3; ++i) {
      method.ask(place.world.manager(), {"s", "r"},
                 [&](Answer answer) { answers.push_back(std::move(answer)); });
    }
    ASSERT_TRUE(place.world.RunUntil([&] { return answers.size() == 3; }));
    for (const Answer& answer : answers) {
      ASSERT_TRUE(answer.ok()) << answer.status();
      EXPECT_EQ(*answer, *answers[0]);
    }
    EXPECT_EQ(place.TimesDone(method, *answers[0], "r"), 1);
  }
}

TEST(SessionRequestsTest, AfterACrashAtAnyMomentARequestHasActedOnce) {
  for (const Method& method : Methods()) {
    for (const size_t after : {2, 7, 14, 30}) {
      SCOPED_TRACE(method.name + " " + std::to_string(after));
      Place place;
      std::optional<Answer> first;
      method.ask(place.world.manager(), {"s", "r"}, [&](Answer answer) { first = std::move(answer); });
      size_t tasks = after;
      place.world.RunUntil([&tasks] { return tasks-- == 0; });
      after == 7 ? place.world.PowerCut() : place.world.Kill();
      ASSERT_TRUE(place.world.Boot());
      const Answer again = place.Ask(method, {"s", "r"});
      ASSERT_TRUE(again.ok()) << again.status();
      if (first.has_value()) {
        EXPECT_EQ(first->value(), *again);
      }
      EXPECT_EQ(*place.Ask(method, {"s", "r"}), *again);
      EXPECT_EQ(place.TimesDone(method, *again, "r"), 1);
    }
  }
}

TEST(SessionRequestsTest, AnIdIsForOneMethodAndOneRequest) {
  Place place;
  const Method pause = Methods()[10];
  const Method undo = Methods()[5];
  ASSERT_TRUE(place.Ask(pause, {"s", "r"}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(place.Ask(undo, {"s", "r"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(place.world.Send("s", {.request_id = "r", .text = "x"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(place.Ask(pause, {"s", std::string(129, 'r')}).status()));
  EXPECT_TRUE(place.Ask(pause, {"s", std::string(128, '\0')}).ok());
  EXPECT_TRUE(absl::IsNotFound(place.Ask(pause, {"nobody", "r"}).status()));
  // One that failed has not acted.
  EXPECT_TRUE(absl::IsNotFound(place.Ask(undo, {"nobody", "again"}).status()));
  EXPECT_TRUE(place.Ask(undo, {"s", "again"}).ok());
}

TEST(SessionRequestsTest, ATakenIdIsAnsweredToTheSameRequestAlone) {
  Place place;
  ManagerWorld& world = place.world;
  const auto create = [&](const std::string& request_id) {
    return world.Create({.id = "t", .request_id = request_id, .profile = ManagerWorld::Profile()}).status();
  };
  EXPECT_TRUE(create("one").ok());
  EXPECT_TRUE(create("one").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(create("two")));
  EXPECT_TRUE(absl::IsAlreadyExists(create("")));
  const auto forked = [&](const std::string& request_id, const std::string& id) {
    return world.Ask<SessionRow>([&](auto done) {
      world.manager().Fork({"s", request_id}, 0, id, std::move(done));
    });
  };
  EXPECT_TRUE(absl::IsAlreadyExists(forked("three", "t").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(forked("one", "t").status()));
  const auto made = forked("four", "u");
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(forked("four", "u")->uid, made->uid);
  EXPECT_TRUE(absl::IsAlreadyExists(forked("", "u").status()));
  // The parent goes on, whatever became of the fork.
  EXPECT_TRUE(world.Send("s", {.request_id = "m", .text = "x"}).ok());
}

// What a rewind has left behind was done all the same; and a fork is another session.
TEST(SessionRequestsTest, ARequestBehindARewindHasActed) {
  Place place;
  ManagerWorld& world = place.world;
  ASSERT_TRUE(place.Ask(Methods()[10], {"s"}).ok());
  const auto sent = world.Send("s", {.request_id = "m", .text = "x"});
  ASSERT_TRUE(sent.ok());
  ASSERT_TRUE(place.Ask(Methods()[5], {"s", "u"}).ok());
  EXPECT_EQ(*world.Send("s", {.request_id = "m", .text = "x"}), *sent);
  const auto fork =
      world.Ask<SessionRow>([&](auto done) { world.manager().Fork({"s"}, 0, "t", std::move(done)); });
  ASSERT_TRUE(fork.ok()) << fork.status();
  const auto to_fork = world.Send("t", {.request_id = "m", .text = "x"});
  ASSERT_TRUE(to_fork.ok());
  EXPECT_GT(*to_fork, *sent);
}

}  // namespace
}  // namespace holdfast::agent

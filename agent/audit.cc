#include "agent/audit.h"

#include <algorithm>
#include <map>
#include <utility>
#include <variant>

#include "agent/agent_event.h"
#include "agent/feeding.h"
#include "base/coding.h"
#include "model/sampler.h"
#include "sessions/session_facts.h"
#include "sessions/token_log.h"

namespace holdfast::agent {
namespace {

using base::Status;
using base::StatusOr;
using sessions::Event;
using sessions::TokenRun;

// A window in the engine: fed as far as it was needed.
class FedWindow {
 public:
  explicit FedWindow(model::Engine& engine) : engine_(engine), sequence_(engine.NewSequence()) {}

  void Clear() {
    sequence_ = engine_.NewSequence();
    tail_.clear();
  }

  // What is fed is no more than the first `position` tokens.
  Status CutTo(int64_t position) {
    if (sequence_.position() <= position) return {};
    if (tail_.empty() || tail_at_ > position) {
      Clear();
      return {};
    }
    sequence_.TruncateToBlocks(tail_at_ / sequence_.layout().block_tokens);
    return sequence_.RestoreTail(tail_at_, tail_);
  }

  // Feeds up to `end`, and keeps the tail at the last boundary on the way, for a cut.
  Status FeedTo(std::span<const int32_t> window, int64_t end) {
    const int64_t block = sequence_.layout().block_tokens;
    const int64_t boundary = end / block * block;
    while (sequence_.position() < end) {
      const int64_t at = sequence_.position();
      const int64_t stop = at < boundary ? boundary : end;
      const auto count = std::min<int64_t>(stop - at, engine_.max_rows());
      const model::Feed feed{.sequence = &sequence_,
                             .tokens = window.subspan(static_cast<size_t>(at), static_cast<size_t>(count))};
      HF_RETURN_IF_ERROR(engine_.Forward({&feed, 1}));
      if (sequence_.position() == boundary) SaveTail();
    }
    return {};
  }

  // Feeds `tokens`; `logits` are those after each of them.
  Status Feed(std::span<const int32_t> tokens, std::span<float> logits) {
    const model::Feed feed{
        .sequence = &sequence_, .tokens = tokens, .logits = model::LogitRows::kAll, .logits_out = logits};
    return engine_.Forward({&feed, 1});
  }

 private:
  void SaveTail() {
    tail_.resize(static_cast<size_t>(model::BoundaryTailBytes(engine_.config(), sequence_.layout().mode)));
    sequence_.SaveTail(tail_);
    tail_at_ = sequence_.position();
  }

  model::Engine& engine_;
  model::Sequence sequence_;
  std::vector<std::byte> tail_;  // at tail_at_; empty: none
  int64_t tail_at_ = 0;
};

// What is so behind an event.
struct Place {
  sessions::SessionFacts facts;
  std::map<uint64_t, Said> untold;
  std::optional<sessions::SessionCreated> created;
  std::optional<ProfileSet> profile;
  uint64_t prompt_seq = 0;  // of the last event that says what the prompt is
  // Of the window.
  std::optional<Opening> opening;
  std::vector<int32_t> before;       // the window before it
  std::vector<uint64_t> told_first;  // the outcomes of that one's last turn
  uint64_t held_before = 0;          // tokens that the windows before it held
  // Orders may have ended without a word: only as much as is there can be accounted for, not all.
  bool was_cut_short = false;
};

class Auditor {
 public:
  Auditor(const AuditSource& source, const AuditOptions& options)
      : source_(source), options_(options), window_(options.engine) {}

  StatusOr<AuditReport> Run() {
    HF_RETURN_IF_ERROR(Survey());
    HF_RETURN_IF_ERROR(Walk(0, [this](const Event& event) { return Take(event); }));
    if (!report_.finding.has_value()) CheckBalance(place_.facts.last_seq(), /*whole=*/false);
    const sessions::TokenTotals& totals = place_.facts.tokens().totals();
    if (!report_.finding.has_value()) {
      report_.unaccounted = totals.sampled - place_.facts.accounted().decoded;
    }
    return std::move(report_);
  }

 private:
  // Calls `take` with every event after `after`, until there are no more or there is a finding.
  Status Walk(uint64_t after, const std::function<Status(const Event&)>& take) {
    for (;;) {
      HF_ASSIGN_OR_RETURN(const std::vector<Event> events, source_(after));
      if (events.empty()) return {};
      for (const Event& event : events) {
        HF_RETURN_IF_ERROR(take(event));
        if (report_.finding.has_value() || enough_) return {};
      }
      after = events.back().seq;
    }
  }

  Status Survey();
  Status Take(const Event& event);
  void CheckOrder(const Event& event);
  Status GoBack(const Event& event, const sessions::Rewound& rewound);
  Status Check(const Event& event);
  Status CheckRun(const Event& event, const TokenRun& run);
  Status CheckFed(const Event& event, const TokenRun& run);
  Status CheckSampled(const Event& event, const TokenRun& run);
  StatusOr<bool> SampleAgain(const Event& event, const TokenRun& run, model::Sampler& sampler);
  Status CheckForced(const Event& event, const TokenRun& run);
  Status CheckCut(const Event& event, const sessions::TokensCut& cut);
  void CheckBalance(uint64_t seq, bool whole);
  void Compare(const Event& event, const TokenRun& run, std::string check, std::span<const int32_t> wanted);

  Status Apply(const Event& event);
  Status TakeAgentEvent(const Event& event, const sessions::AgentEvent& body);

  StatusOr<const Dialogue*> NeedDialogue();
  StatusOr<std::vector<uint64_t>> OutcomesOfTurn();
  StatusOr<std::vector<int32_t>> Render(const TokenRun& run, std::span<const Said> said);
  StatusOr<uint64_t> CauseOf(const TokenRun& run, std::span<const uint64_t> order, std::span<const Said> said,
                             std::span<const int32_t> wanted, size_t at);
  Status MakeConstraint(bool constrained);
  void Find(const Event& event, std::string check, const std::string& what);

  const sessions::TokenLog& tokens() const { return place_.facts.tokens(); }

  const AuditSource& source_;
  const AuditOptions& options_;
  AuditReport report_;
  uint64_t total_ = 0;  // tokens of the log
  uint64_t done_ = 0;
  std::vector<sessions::RewindPoint> rewinds_;
  bool enough_ = false;  // of a walk

  uint64_t last_seq_ = 0;
  sessions::SessionUid uid_ = {};
  base::Sha256Digest chain_ = {};
  Place place_;
  FedWindow window_;
  std::vector<float> logits_;
  std::unique_ptr<Dialogue> made_dialogue_;
  uint64_t made_for_ = 0;  // Place::prompt_seq
  // Of the turn, at constraint_at_.
  std::unique_ptr<sessions::TokenConstraint> constraint_;
  int64_t constraint_at_ = -1;
};

std::string Hex(const base::Sha256Digest& digest) { return base::ToHex(digest).substr(0, 12); }

void Auditor::Find(const Event& event, std::string check, const std::string& what) {
  if (report_.finding.has_value()) return;
  report_.finding = AuditFinding{.seq = event.seq,
                                 .check = std::move(check),
                                 .epoch = tokens().epoch(),
                                 .position = tokens().position(),
                                 .text = "event " + std::to_string(event.seq) + " (" +
                                         sessions::KindName(sessions::KindOf(event.body)) + "): " + what};
}

// --- The log as a list

Status Auditor::Survey() {
  return Walk(0, [this](const Event& event) -> Status {
    if (const auto* run = std::get_if<TokenRun>(&event.body)) total_ += run->ids.size();
    if (const auto* rewound = std::get_if<sessions::Rewound>(&event.body)) {
      if (rewound->to_seq == 0 || rewound->to_seq >= event.seq) {
        Find(event, "record", "a rewind to event " + std::to_string(rewound->to_seq));
      }
      rewinds_.push_back({.seq = event.seq, .to_seq = rewound->to_seq});
    }
    return {};
  });
}

// The numbers have no gaps, and the chain holds; that of a fork begins with its first event.
void Auditor::CheckOrder(const Event& event) {
  if (event.seq != last_seq_ + 1) {
    return Find(event, "record", "event " + std::to_string(last_seq_ + 1) + " is missing");
  }
  if (const auto* created = std::get_if<sessions::SessionCreated>(&event.body)) {
    const bool goes_on =
        created->parent.has_value() && created->parent_seq == last_seq_ && created->parent == uid_;
    if (last_seq_ > 0 && !goes_on) return Find(event, "record", "it does not go on from what is before it");
    uid_ = created->uid;
    chain_ = sessions::ChainRoot(uid_);
  }
  last_seq_ = event.seq;
  chain_ = sessions::NextChain(chain_, event.seq, event.utc_ms, sessions::KindOf(event.body),
                               base::AsBytes(sessions::EncodeBody(event.body)));
  if (chain_ != event.chain) Find(event, "chain", "it is not what was written: its chain does not hold");
}

Status Auditor::Take(const Event& event) {
  ++report_.events;
  CheckOrder(event);
  if (report_.finding.has_value()) return {};
  if (const auto* run = std::get_if<TokenRun>(&event.body)) {
    if (options_.progress && !options_.progress(done_, total_))
      return absl::CancelledError("the audit was ended");
    done_ += run->ids.size();
  }
  if (const auto* rewound = std::get_if<sessions::Rewound>(&event.body)) return GoBack(event, *rewound);
  HF_RETURN_IF_ERROR(Check(event));
  return report_.finding.has_value() ? Status() : Apply(event);
}

// What was before the rewind has been proven; now the state behind `to_seq` is that to go on from.
Status Auditor::GoBack(const Event& event, const sessions::Rewound& rewound) {
  ++report_.rewinds;
  const auto before = std::find_if(rewinds_.begin(), rewinds_.end(),
                                   [&event](const auto& point) { return point.seq == event.seq; });
  place_ = Place();
  window_.Clear();
  constraint_.reset();
  const std::span<const sessions::RewindPoint> earlier(rewinds_.data(),
                                                       static_cast<size_t>(before - rewinds_.begin()));
  for (const sessions::EventRange& range : sessions::LiveHistory(earlier, rewound.to_seq)) {
    const Status status = Walk(range.first - 1, [this, &range](const Event& one) -> Status {
      enough_ = one.seq >= range.last;
      return one.seq > range.last ? Status() : Apply(one);
    });
    enough_ = false;
    HF_RETURN_IF_ERROR(status);
  }
  return Apply(event);
}

// --- What follows from an event

Status Auditor::Apply(const Event& event) {
  if (std::holds_alternative<sessions::EpochStarted>(event.body)) {
    HF_ASSIGN_OR_RETURN(place_.told_first, OutcomesOfTurn());
    place_.before.assign(tokens().window().begin(), tokens().window().end());
    place_.held_before += place_.before.size();
    place_.opening.reset();
    window_.Clear();
  }
  if (const Status fits = place_.facts.Apply(event); !fits.ok()) {
    Find(event, "record", base::Message(fits));
    return {};
  }
  if (const auto* created = std::get_if<sessions::SessionCreated>(&event.body)) {
    place_.was_cut_short = place_.was_cut_short || created->parent.has_value();
    place_.created = *created;
    place_.prompt_seq = event.seq;
  } else if (const auto* cut = std::get_if<sessions::TokensCut>(&event.body)) {
    HF_RETURN_IF_ERROR(window_.CutTo(cut->position));
  } else if (const auto* agent = std::get_if<sessions::AgentEvent>(&event.body)) {
    HF_RETURN_IF_ERROR(TakeAgentEvent(event, *agent));
  } else if (std::holds_alternative<sessions::Rewound>(event.body) ||
             std::holds_alternative<sessions::Recovered>(event.body)) {
    place_.was_cut_short = true;
  }
  if (std::optional<Said> said = SaidBy(event.body)) place_.untold.emplace(event.seq, *std::move(said));
  if (const auto* run = std::get_if<TokenRun>(&event.body)) {
    for (const uint64_t seq : run->rendered) place_.untold.erase(seq);
  }
  return {};
}

Status Auditor::TakeAgentEvent(const Event& event, const sessions::AgentEvent& body) {
  const auto decoded = Decode(body);
  if (!decoded.ok()) {
    Find(event, "record", base::Message(decoded.status()));
    return {};
  }
  if (!decoded->has_value()) return {};
  if (const auto* profile = std::get_if<ProfileSet>(&**decoded)) {
    place_.profile = *profile;
    place_.prompt_seq = event.seq;
  } else if (const auto* opening = std::get_if<Opening>(&**decoded)) {
    place_.opening = *opening;
  }
  return {};
}

StatusOr<const Dialogue*> Auditor::NeedDialogue() {
  if (options_.dialogue != nullptr) return options_.dialogue;
  if (made_dialogue_ != nullptr && made_for_ == place_.prompt_seq) return made_dialogue_.get();
  if (!place_.created.has_value() || !place_.profile.has_value()) {
    return base::InvalidArgument("the record does not say what the prompt of the session is");
  }
  HF_ASSIGN_OR_RETURN(DialogueOptions options, DialogueOptionsOf(*place_.created, *place_.profile));
  constraint_.reset();  // belongs to the dialogue
  HF_ASSIGN_OR_RETURN(made_dialogue_, Dialogue::Make(options_.tokenizer, std::move(options)));
  made_for_ = place_.prompt_seq;
  return made_dialogue_.get();
}

// Of the calls of the turn that the window ends with, in their order; those that are on record.
StatusOr<std::vector<uint64_t>> Auditor::OutcomesOfTurn() {
  std::vector<uint64_t> outcomes;
  if (tokens().position() == 0) return outcomes;
  HF_ASSIGN_OR_RETURN(const Dialogue* dialogue, NeedDialogue());
  const size_t calls = dialogue->Read(TurnTokens(tokens())).calls.size();
  for (size_t i = 0; i < calls; ++i) {
    if (const auto seq = place_.facts.OutcomeOf(CallName(tokens(), i))) outcomes.push_back(*seq);
  }
  return outcomes;
}

// --- What an event must be

Status Auditor::Check(const Event& event) {
  if (const auto* run = std::get_if<TokenRun>(&event.body)) return CheckRun(event, *run);
  if (const auto* cut = std::get_if<sessions::TokensCut>(&event.body)) return CheckCut(event, *cut);
  if (std::holds_alternative<sessions::EpochStarted>(event.body)) ++report_.epochs;
  return {};
}

Status Auditor::CheckRun(const Event& event, const TokenRun& run) {
  if (run.position != tokens().position()) return {};  // Apply refuses it
  if (report_.epochs == 0) report_.epochs = 1;
  switch (run.origin) {
    case sessions::TokenOrigin::kFed:
      return CheckFed(event, run);
    case sessions::TokenOrigin::kSampled:
      return CheckSampled(event, run);
    case sessions::TokenOrigin::kForced:
      return CheckForced(event, run);
  }
  return {};
}

void Auditor::Compare(const Event& event, const TokenRun& run, std::string check,
                      std::span<const int32_t> wanted) {
  const auto [want, have] = std::mismatch(wanted.begin(), wanted.end(), run.ids.begin(), run.ids.end());
  if (want == wanted.end() && have == run.ids.end()) return;
  const auto name = [](std::optional<int32_t> id) { return id ? "token " + std::to_string(*id) : "nothing"; };
  AuditFinding finding{.wanted = want == wanted.end() ? std::nullopt : std::optional(*want),
                       .found = have == run.ids.end() ? std::nullopt : std::optional(*have)};
  const int64_t position = run.position + (have - run.ids.begin());
  Find(event, std::move(check),
       "at position " + std::to_string(position) + " " + name(finding.found) + " is on record, and " +
           name(finding.wanted) + " is what it must be");
  report_.finding->position = position;
  report_.finding->wanted = finding.wanted;
  report_.finding->found = finding.found;
}

// --- Fed

Status Auditor::CheckFed(const Event& event, const TokenRun& run) {
  constraint_.reset();
  CheckBalance(event.seq, /*whole=*/true);
  HF_ASSIGN_OR_RETURN(const Dialogue* dialogue, NeedDialogue());
  std::vector<uint64_t> outcomes = place_.told_first;
  if (run.position > 0) {
    if (!dialogue->Read(TurnTokens(tokens())).complete) {
      Find(event, "fed", "the model's turn had not ended");
      return {};
    }
    HF_ASSIGN_OR_RETURN(outcomes, OutcomesOfTurn());
  }
  const std::vector<uint64_t> order = TellingOrder(outcomes, run.rendered);
  std::vector<Said> said;
  for (const uint64_t seq : order) {
    const auto untold = place_.untold.find(seq);
    if (untold == place_.untold.end()) {
      Find(event, "record", "it tells event " + std::to_string(seq) + ", which is not there to be told");
      return {};
    }
    said.push_back(untold->second);
  }
  const auto wanted = Render(run, said);
  if (!wanted.ok()) {
    if (!absl::IsInvalidArgument(wanted.status())) return wanted.status();
    Find(event, "fed", "what it tells cannot be rendered: " + base::Message(wanted.status()));
    return {};
  }
  Compare(event, run, "fed", *wanted);
  if (!report_.finding.has_value()) {
    report_.fed += run.ids.size();
    return {};
  }
  const auto at = static_cast<size_t>(report_.finding->position - run.position);
  HF_ASSIGN_OR_RETURN(const uint64_t cause, CauseOf(run, order, said, *wanted, at));
  report_.finding->cause = cause;
  if (cause != 0) report_.finding->text += " (by event " + std::to_string(cause) + ", which it tells)";
  return {};
}

StatusOr<std::vector<int32_t>> Auditor::Render(const TokenRun& run, std::span<const Said> said) {
  HF_ASSIGN_OR_RETURN(const Dialogue* dialogue, NeedDialogue());
  if (run.position > 0) return dialogue->Next(said);
  const Opening opening = place_.opening.value_or(Opening());
  const auto before = static_cast<int64_t>(place_.before.size());
  if (opening.kept_from < 0 || opening.kept_count < 0 || opening.kept_from > before ||
      opening.kept_count > before - opening.kept_from) {
    return base::InvalidArgument("it keeps tokens that the window before does not have");
  }
  const auto kept =
      std::span(place_.before)
          .subspan(static_cast<size_t>(opening.kept_from), static_cast<size_t>(opening.kept_count));
  if (opening.texts.empty() && said.empty()) return base::InvalidArgument("it begins a window with nothing");
  return OpeningTokens(*dialogue, opening.texts, kept, said);
}

// The first event without which the tokens up to the difference do not come out.
StatusOr<uint64_t> Auditor::CauseOf(const TokenRun& run, std::span<const uint64_t> order,
                                    std::span<const Said> said, std::span<const int32_t> wanted, size_t at) {
  const bool opens = run.position == 0;
  for (size_t count = opens ? 0 : 1; count <= order.size(); ++count) {
    const auto part = Render(run, said.first(count));
    if (!part.ok()) continue;  // nothing is told yet
    const auto differ = std::mismatch(part->begin(), part->end(), wanted.begin(), wanted.end()).second;
    if (static_cast<size_t>(differ - wanted.begin()) > at) return count == 0 ? 0 : order[count - 1];
  }
  return uint64_t{0};
}

// --- Sampled

Status Auditor::CheckSampled(const Event& event, const TokenRun& run) {
  const sessions::Sampling& sampling = *run.sampling;
  if (run.position == 0) {
    Find(event, "record", "tokens sampled from nothing");
  } else if (sampling.stream != tokens().stream()) {
    Find(event, "record",
         "sampled in stream " + std::to_string(sampling.stream) + ", and the session's is " +
             std::to_string(tokens().stream()));
  }
  if (report_.finding.has_value()) return {};
  if (sampling.numerics != options_.numerics) {
    auto same = std::find_if(report_.foreign.begin(), report_.foreign.end(),
                             [&](const AuditForeign& one) { return one.numerics == sampling.numerics; });
    if (same == report_.foreign.end()) same = report_.foreign.insert(same, {.numerics = sampling.numerics});
    ++same->runs;
    same->tokens += run.ids.size();
    constraint_.reset();
    return {};
  }
  auto sampler = model::Sampler::Make({.temperature = sampling.temperature,
                                       .top_k = sampling.top_k,
                                       .min_p = sampling.min_p,
                                       .top_p = sampling.top_p});
  if (!sampler.ok()) {
    Find(event, "record", base::Message(sampler.status()));
    return {};
  }
  HF_ASSIGN_OR_RETURN(const Dialogue* dialogue, NeedDialogue());
  const bool constrained = sampling.grammar != base::Sha256Digest{};
  if (constrained && sampling.grammar != dialogue->grammar_hash()) {
    Find(event, "record",
         "sampled under the grammar " + Hex(sampling.grammar) + ", and the session's is " +
             Hex(dialogue->grammar_hash()));
    return {};
  }
  HF_RETURN_IF_ERROR(MakeConstraint(constrained));
  HF_ASSIGN_OR_RETURN(const bool same, SampleAgain(event, run, *sampler));
  if (same) report_.sampled += run.ids.size();
  return {};
}

Status Auditor::MakeConstraint(bool constrained) {
  if (!constrained) {
    constraint_.reset();
    return {};
  }
  if (constraint_ != nullptr && constraint_at_ == tokens().position()) return {};
  HF_ASSIGN_OR_RETURN(const Dialogue* dialogue, NeedDialogue());
  const std::span<const int32_t> begun = TurnTokens(tokens());
  constraint_ = dialogue->Constrain(begun);
  const auto before = tokens().window().first(tokens().window().size() - begun.size());
  if (options_.narrow) constraint_ = options_.narrow(std::move(constraint_), before, begun);
  return {};
}

// Feeds the token before each that was sampled, and samples that again. False: there is a finding.
StatusOr<bool> Auditor::SampleAgain(const Event& event, const TokenRun& run, model::Sampler& sampler) {
  HF_RETURN_IF_ERROR(window_.FeedTo(tokens().window(), run.position - 1));
  std::vector<int32_t> before = {tokens().window().back()};
  before.insert(before.end(), run.ids.begin(), run.ids.end() - 1);
  const auto vocab = static_cast<size_t>(options_.engine.config().vocab_size);
  const auto rows =
      static_cast<size_t>(std::clamp(options_.logit_rows, int32_t{1}, options_.engine.max_rows()));
  for (size_t at = 0; at < before.size(); at += rows) {
    const auto part = std::span(before).subspan(at, std::min(rows, before.size() - at));
    logits_.resize(std::max(logits_.size(), part.size() * vocab));
    HF_RETURN_IF_ERROR(window_.Feed(part, std::span(logits_).first(part.size() * vocab)));
    for (size_t i = 0; i < part.size(); ++i) {
      const auto position = static_cast<uint64_t>(run.position) + at + i;
      std::vector<int32_t> wanted(run.ids.begin(), run.ids.begin() + static_cast<ptrdiff_t>(at + i));
      if (constraint_ == nullptr || !constraint_->IsDone()) {
        auto id = sampler.Sample(
            std::span(logits_).subspan(i * vocab, vocab),
            constraint_ == nullptr ? nullptr : constraint_->Mask(),
            {.seed = run.sampling->seed, .stream = run.sampling->stream, .position = position});
        if (!id.ok()) return id.status();
        wanted.push_back(*id);
      }
      if (wanted.size() == at + i || wanted.back() != run.ids[at + i]) {
        Compare(event, run, "sampled", wanted);
        return false;
      }
      if (constraint_ != nullptr) HF_RETURN_IF_ERROR(constraint_->Accept(wanted.back()));
    }
  }
  constraint_at_ = run.position + static_cast<int64_t>(run.ids.size());
  return true;
}

// --- Closed by rule

Status Auditor::CheckForced(const Event& event, const TokenRun& run) {
  constraint_.reset();
  HF_ASSIGN_OR_RETURN(const Dialogue* dialogue, NeedDialogue());
  const Closing closing = dialogue->Close(TurnTokens(tokens()));
  if (closing.cut > 0) {
    Find(event, "cut",
         "an unfinished block of calls of " + std::to_string(closing.cut) + " tokens is before it");
    return {};
  }
  Compare(event, run, "forced", closing.forced);
  if (!report_.finding.has_value()) report_.forced += run.ids.size();
  return {};
}

Status Auditor::CheckCut(const Event& event, const sessions::TokensCut& cut) {
  constraint_.reset();
  HF_ASSIGN_OR_RETURN(const Dialogue* dialogue, NeedDialogue());
  const Closing closing = dialogue->Close(TurnTokens(tokens()));
  if (closing.cut != cut.count) {
    Find(event, "cut",
         std::to_string(cut.count) + " tokens are cut away, and the rule is " + std::to_string(closing.cut));
    return {};
  }
  report_.cut += static_cast<uint64_t>(cut.count);
  return {};
}

// --- Balance

// `whole`: no order is under way.
void Auditor::CheckBalance(uint64_t seq, bool whole) {
  const sessions::TokenTotals& totals = tokens().totals();
  const sessions::TokensAccounted& accounted = place_.facts.accounted();
  const uint64_t held = place_.held_before + tokens().window().size();
  const bool all = whole && !place_.was_cut_short;
  const auto balanced = [all](uint64_t said, uint64_t is) { return all ? said == is : said <= is; };
  if (totals.fed + totals.sampled + totals.forced == held + totals.cut &&
      balanced(accounted.decoded, totals.sampled) && balanced(accounted.forced, totals.forced) &&
      balanced(accounted.discarded, totals.cut)) {
    return;
  }
  report_.finding = AuditFinding{
      .seq = seq,
      .check = "balance",
      .epoch = tokens().epoch(),
      .position = tokens().position(),
      .text = "before event " + std::to_string(seq) + " " + std::to_string(accounted.decoded) + " sampled, " +
              std::to_string(accounted.forced) + " forced and " + std::to_string(accounted.discarded) +
              " discarded tokens are accounted for, and " + std::to_string(totals.sampled) + ", " +
              std::to_string(totals.forced) + " and " + std::to_string(totals.cut) +
              " are on record; windows held " + std::to_string(held)};
}

}  // namespace

StatusOr<AuditReport> Audit(const AuditSource& source, const AuditOptions& options) {
  return Auditor(source, options).Run();
}

}  // namespace holdfast::agent

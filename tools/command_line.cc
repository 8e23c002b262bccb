#include "tools/command_line.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace holdfast::tools {
namespace {

struct Word {
  OpenText text;
  bool quoted = false;  // any part of it
  bool open = false;    // holds a hole
  size_t name_end = 0;  // of an assignment: where its `=` stands; 0: none

  bool Is(std::string_view plain) const { return !quoted && text == ToOpenText(plain); }
  // The bytes of a word without holes.
  std::string Bytes() const {
    std::string bytes;
    for (const char16_t unit : text) bytes += static_cast<char>(unit);
    return bytes;
  }
};

bool IsBlank(char c) { return c == ' ' || c == '\t'; }
bool IsNameByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
// Ends a word.
bool IsMeta(char c) {
  return IsBlank(c) || c == '\n' || c == ';' || c == '&' || c == '|' || c == '(' || c == ')' || c == '<' ||
         c == '>';
}
bool IsPlain(char16_t unit) {
  if (unit >= 0x80 && unit < kHole) return true;
  return unit == kHole || IsNameByte(static_cast<char>(unit)) ||
         std::string_view("@%+=:,./-").find(static_cast<char>(unit)) != std::string_view::npos;
}

OpenText InQuotes(const OpenText& text) {
  OpenText quoted = u"'";
  for (const char16_t unit : text) quoted += unit == u'\'' ? OpenText(u"'\\''") : OpenText(1, unit);
  return quoted + u"'";
}

OpenText Quoted(const OpenText& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), IsPlain) ? text : InQuotes(text);
}

OpenText Plain(const OpenText& text) { return text; }

template <size_t kCount>
bool Among(const std::array<std::string_view, kCount>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

constexpr std::array<std::string_view, 7> kShells = {"sh", "bash", "dash", "zsh", "ksh", "ash", "rbash"};
// They run what stands in their arguments.
constexpr std::array<std::string_view, 34> kRunners = {
    "env",     "xargs",    "sudo",    "doas",    "su",      "nohup",  "nice",    "ionice",  "time",
    "timeout", "command",  "exec",    "builtin", "setsid",  "stdbuf", "chroot",  "strace",  "ltrace",
    "watch",   "parallel", "find",    "fd",      "script",  "flock",  "unshare", "nsenter", "taskset",
    "chrt",    "prlimit",  "setpriv", "runuser", "busybox", "toybox", "entr"};
constexpr std::array<std::string_view, 9> kBefore = {"if",    "then",  "elif", "else", "do",
                                                     "while", "until", "{",    "!"};
constexpr std::array<std::string_view, 3> kAfter = {"fi", "done", "}"};
constexpr std::array<std::string_view, 5> kNotTakenApart = {"case", "select", "coproc", "function", "esac"};
// Builtins that evaluate subscripts in their arguments, and so what stands in `a[$(...)]`.
constexpr std::array<std::string_view, 14> kEvaluators = {
    "let",   "test",   "[",        "printf", "read",    "declare",   "typeset",
    "local", "export", "readonly", "unset",  "mapfile", "readarray", "wait"};

// Whether a literal text holds what would run a command if it were evaluated once more.
bool HoldsCommands(const OpenText& text) {
  return text.find(u"$(") != OpenText::npos || text.find(u"${") != OpenText::npos ||
         text.find(u'`') != OpenText::npos;
}

class Parser {
 public:
  Parser(std::string_view text, size_t depth, size_t& units, CommandLine& out)
      : text_(text), depth_(depth), units_(units), out_(out) {
    if (depth > CommandLine::kDepthMax) Doubt("nested too deeply");
  }

  // Commands up to the end of the text.
  void All() {
    if (List('\0') && !AtEnd()) Doubt("a bracket that was not opened");
  }

  // Text of a here-document: only expansions mean anything.
  void ExpansionsOnly() { Expandable('\0', nullptr); }

 private:
  // --- Reading

  bool AtEnd() const { return at_ >= text_.size(); }
  char Peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool Starts(std::string_view what) const { return text_.substr(at_, what.size()) == what; }
  bool Take(std::string_view what) {
    if (!Starts(what)) return false;
    at_ += what.size();
    return true;
  }

  // Once in doubt there is nothing more to learn: every loop ends.
  void Doubt(std::string_view why) {
    if (out_.certain) out_.doubt = why;
    out_.certain = false;
    at_ = text_.size();
  }

  bool StartsSubstitution() const { return Starts("<(") || Starts(">("); }

  void SkipBlanks() {
    for (;;) {
      if (IsBlank(Peek()) && !AtEnd()) {
        ++at_;
      } else if (!Take("\\\n")) {
        return;
      }
    }
  }

  // Blanks and line breaks, where a line break ends nothing.
  void SkipLines() {
    for (;; ++at_) {
      SkipBlanks();
      if (AtEnd() || Peek() != '\n') return;
      if (!documents_.empty()) return Doubt("a line break before a here-document");
    }
  }

  void SkipComment() {
    while (!AtEnd() && Peek() != '\n') ++at_;
  }

  // --- Lists of commands

  // Up to `closer`, which is taken, or the end. False when the closer is missing.
  bool List(char closer) {
    for (;;) {
      SkipBlanks();
      if (AtEnd()) {
        if (!documents_.empty()) Doubt("a here-document without an end");
        if (closer != '\0') Doubt("something unfinished");
        return closer == '\0';
      }
      const char c = Peek();
      if (closer != '\0' && c == closer) {
        ++at_;
        return true;
      }
      if (c == '#') {
        SkipComment();
      } else if (c == '\n') {
        ++at_;
        Documents();
      } else if (Starts("&>") || c == '<' || c == '>') {
        Simple();
      } else if (Starts(";;") || Starts(";&")) {
        Doubt("a `case` in part");
      } else if (c == ';' || c == '&' || c == '|') {
        ++at_;
      } else if (c == '(') {
        Subshell();
      } else if (c == ')') {
        return true;  // All takes it for an error
      } else {
        Simple();
      }
    }
  }

  void Subshell() {
    if (Starts("((")) return Doubt("an arithmetic command");
    ++at_;
    Deeper([this] { List(')'); });
  }

  template <typename Body>
  void Deeper(Body body) {
    if (++depth_ > CommandLine::kDepthMax) Doubt("nested too deeply");
    if (!documents_.empty()) Doubt("brackets before a here-document");
    body();
    if (!documents_.empty()) Doubt("a here-document that ends outside its brackets");
    --depth_;
  }

  void Simple() {
    std::vector<Word> words;
    bool first = true;  // a word of the grammar may stand here
    for (;;) {
      SkipBlanks();
      if (AtEnd()) break;
      if (Peek() == '#') {
        SkipComment();
        break;
      }
      if (Redirection()) {
        first = false;
        continue;
      }
      if (Peek() == '(' && (!first || !words.empty())) Doubt("a function or an array");
      if (IsMeta(Peek()) && !StartsSubstitution()) break;
      Word word = ReadWord();
      if (!first || !Reserved(word)) {
        words.push_back(std::move(word));
        first = false;
      } else if (ended_) {
        break;
      }
    }
    ended_ = false;
    if (out_.certain) Emit(words);
  }

  // Words of the grammar, where a command may begin. `ended_`: the command ends with it.
  bool Reserved(const Word& word) {
    if (word.quoted || word.open) return false;
    const std::string name = word.Bytes();
    if (Among(kBefore, name) || Among(kAfter, name)) return true;
    if (Among(kNotTakenApart, name)) {
      Doubt("a `" + name + "`");
      return true;
    }
    if (name == "for") {
      For();
      return ended_ = true;
    }
    if (name == "[[") {
      Test();
      return ended_ = true;
    }
    return false;
  }

  // `for NAME [in WORDS]`; what follows is a list like any other.
  void For() {
    SkipBlanks();
    if (AtEnd() || IsMeta(Peek())) return Doubt("an odd `for`");
    ReadWord();
    SkipLines();
    if (!Starts("in") || (at_ + 2 < text_.size() && !IsMeta(Peek(2)))) return;
    at_ += 2;
    for (;;) {
      SkipBlanks();
      if (AtEnd() || Peek() == ';' || Peek() == '\n') return;
      if (Peek() == '#') return SkipComment();
      if (IsMeta(Peek()) && !StartsSubstitution()) return Doubt("an odd `for`");
      ReadWord();
    }
  }

  // `[[ ... ]]`: operators are words there. It only looks.
  void Test() {
    for (;;) {
      SkipBlanks();
      if (AtEnd()) return Doubt("a `[[` without an end");
      if (Starts("]]") && (at_ + 2 >= text_.size() || IsMeta(Peek(2)))) {
        at_ += 2;
        return;
      }
      if (Take("&&") || Take("||")) continue;
      const char c = Peek();
      if (c == '\n' || c == ';' || c == '&' || c == '|' || c == '#') return Doubt("an odd `[[`");
      if (IsMeta(c) && !StartsSubstitution()) {
        ++at_;
      } else if (HoldsCommands(ReadWord().text)) {
        return Doubt("a text in `[[` that may be evaluated");
      }
    }
  }

  // --- Redirections

  bool Redirection() {
    size_t digits = 0;
    while (IsDigit(Peek(digits))) ++digits;
    if (Peek() == '{') {  // {name}>file
      size_t end = 1;
      while (IsNameByte(Peek(end))) ++end;
      if (end > 1 && Peek(end) == '}' && (Peek(end + 1) == '<' || Peek(end + 1) == '>')) {
        Doubt("a redirection to a variable");
        return true;
      }
    }
    const char c = Peek(digits);
    if (c != '<' && c != '>' && !(digits == 0 && Starts("&>"))) return false;
    if (digits == 0 && StartsSubstitution()) return false;
    at_ += digits;
    if (Take("<<<")) {
      SkipBlanks();
      ReadWord();
      return true;
    }
    if (Starts("<<")) {
      DocumentStart();
      return true;
    }
    Target();
    return true;
  }

  void Target() {
    std::string_view sign = ">";
    bool copies = false;  // a descriptor, or a file
    if (Take("&>>") || Take(">>")) {
      sign = ">>";
    } else if (Take(">&") || Take("<&")) {
      copies = true;
    } else if (!Take("&>") && !Take(">|") && !Take("<>") && !Take(">")) {
      Take("<");
      sign = "<";
    }
    SkipBlanks();
    if (AtEnd() || (IsMeta(Peek()) && !StartsSubstitution())) return Doubt("a redirection to nowhere");
    const Word target = ReadWord();
    if (!out_.certain) return;
    const bool descriptor =
        !target.open && std::all_of(target.text.begin(), target.text.end(),
                                    [](char16_t c) { return (c >= u'0' && c <= u'9') || c == u'-'; });
    if (copies && descriptor) return;
    if (!target.open &&
        (target.text == u"/dev/null" || target.text == u"/dev/stdout" || target.text == u"/dev/stderr")) {
      return;
    }
    Add({.text = ToOpenText(sign) + u" " + Quoted(target.text),
         .also = {ToOpenText(sign) + u" " + target.text}});
  }

  struct Document {
    std::string end;
    bool expands = true;
    bool strips = false;
  };

  void DocumentStart() {
    Document document;
    document.strips = Take("<<-");
    if (!document.strips) Take("<<");
    SkipBlanks();
    if (AtEnd() || IsMeta(Peek())) return Doubt("a here-document without a name");
    const Word end = ReadWord();
    if (end.open) return Doubt("a here-document with an odd name");
    document.end = end.Bytes();
    document.expands = !end.quoted;
    documents_.push_back(std::move(document));
  }

  // The here-documents whose lines begin here.
  void Documents() {
    for (const Document& document : std::exchange(documents_, {})) {
      const size_t begin = at_;
      size_t end = std::string_view::npos;
      while (at_ < text_.size() && end == std::string_view::npos) {
        const size_t line_end = std::min(text_.find('\n', at_), text_.size());
        std::string_view line = text_.substr(at_, line_end - at_);
        while (document.strips && line.starts_with('\t')) line.remove_prefix(1);
        if (line == document.end) end = at_;
        if (document.expands && line.ends_with('\\')) return Doubt("a here-document with joined lines");
        at_ = line_end < text_.size() ? line_end + 1 : line_end;
      }
      if (end == std::string_view::npos) return Doubt("a here-document without an end");
      if (document.expands)
        Parser(text_.substr(begin, end - begin), depth_ + 1, units_, out_).ExpansionsOnly();
      if (!out_.certain) return Doubt(out_.doubt);
    }
  }

  // --- Words

  Word ReadWord() {
    Word word;
    const size_t begin = at_;
    bool folds = false;  // a brace expansion: the word may become any others
    while (!AtEnd()) {
      const char c = Peek();
      if (StartsSubstitution()) {
        at_ += 2;
        Deeper([this] { List(')'); });
        Open(word);
      } else if (IsMeta(c)) {
        break;
      } else if (c == '\\') {
        Escape(word);
      } else if (c == '\'') {
        SingleQuoted(word);
      } else if (c == '"') {
        ++at_;
        word.quoted = true;
        Expandable('"', &word);
      } else if (c == '$') {
        Dollar(&word, /*in_quotes=*/false);
      } else if (c == '`') {
        Backticks(&word);
      } else {
        folds = Bare(word, begin) || folds;
      }
    }
    if (folds) {
      word.text = OpenText(1, kHole);
      word.open = true;
      word.name_end = 0;
    }
    return word;
  }

  void Open(Word& word) {
    word.text += kHole;
    word.open = true;
  }

  // A character without quotes. True for the brace of a brace expansion.
  bool Bare(Word& word, size_t begin) {
    const bool first = at_ == begin;
    if (first && (Whole("[") || Whole("[[") || Whole("{"))) {
      const size_t bytes = Starts("[[") ? 2 : 1;
      word.text += ToOpenText(text_.substr(at_, bytes));
      at_ += bytes;
      return false;
    }
    const char c = text_[at_++];
    const char before = first ? '=' : text_[at_ - 2];
    if (c == '*' || c == '?' || c == '[' || (c == '~' && (before == '=' || before == ':'))) {
      Open(word);
      return false;
    }
    if (c == '=' && word.name_end == 0 && IsAssigned(word)) word.name_end = word.text.size();
    word.text += static_cast<char16_t>(static_cast<unsigned char>(c));
    return c == '{' && Folds();
  }

  // Whether the rest of the word is exactly this.
  bool Whole(std::string_view word) const {
    return Starts(word) && (at_ + word.size() >= text_.size() || IsMeta(text_[at_ + word.size()]));
  }

  // Whether what stands before a `=` is a name, or a name and `+`.
  static bool IsAssigned(const Word& word) {
    if (word.quoted || word.open || word.text.empty()) return false;
    OpenText name = word.text;
    if (name.back() == u'+') name.pop_back();
    return !name.empty() && !(name[0] >= u'0' && name[0] <= u'9') &&
           std::all_of(name.begin(), name.end(),
                       [](char16_t unit) { return unit < 0x80 && IsNameByte(static_cast<char>(unit)); });
  }

  // Whether the brace before this may be one of `{a,b}` or `{1..3}`.
  bool Folds() {
    if (at_ < unfolded_end_) return false;
    size_t end = at_;
    while (end < text_.size() && !IsBlank(text_[end]) && text_[end] != '\n' && text_[end] != ';') ++end;
    const std::string_view rest = text_.substr(at_, end - at_);
    if (rest.find(',') != std::string_view::npos || rest.find("..") != std::string_view::npos) return true;
    unfolded_end_ = end;
    return false;
  }

  void Escape(Word& word) {
    if (Take("\\\n")) return;
    ++at_;
    if (AtEnd()) return Doubt("something unfinished");
    word.quoted = true;
    word.text += static_cast<char16_t>(static_cast<unsigned char>(text_[at_++]));
  }

  void SingleQuoted(Word& word) {
    const size_t end = text_.find('\'', at_ + 1);
    if (end == std::string_view::npos) return Doubt("a quote without an end");
    const std::string_view inner = text_.substr(at_ + 1, end - at_ - 1);
    if (!documents_.empty() && inner.find('\n') != std::string_view::npos)
      return Doubt("a line break before a here-document");
    word.quoted = true;
    word.text += ToOpenText(inner);
    at_ = end + 1;
  }

  // Up to `closer` (or the end, for '\0'): text in which only `$`, a backtick and `\` mean something. `word`
  // may be null.
  void Expandable(char closer, Word* word) {
    while (!AtEnd()) {
      const char c = Peek();
      if (closer != '\0' && c == closer) {
        ++at_;
        return;
      }
      if (c == '$') {
        Dollar(word, /*in_quotes=*/true);
      } else if (c == '`') {
        Backticks(word);
      } else if (c == '\\' && at_ + 1 < text_.size()) {
        const char escaped = Peek(1);
        at_ += 2;
        if (escaped == '\n' || word == nullptr) continue;
        if (escaped != '$' && escaped != '`' && escaped != '"' && escaped != '\\') word->text += u'\\';
        word->text += static_cast<char16_t>(static_cast<unsigned char>(escaped));
      } else {
        if (c == '\n' && !documents_.empty()) return Doubt("a line break before a here-document");
        if (word != nullptr) word->text += static_cast<char16_t>(static_cast<unsigned char>(c));
        ++at_;
      }
    }
    if (closer != '\0') Doubt("a quote without an end");
  }

  void Dollar(Word* word, bool in_quotes) {
    Word unused;
    Word& into = word != nullptr ? *word : unused;
    if (Starts("$((")) {
      at_ += 3;
      Deeper([this] { Arithmetic(); });
      return Open(into);
    }
    if (Take("$(")) {
      Deeper([this] { List(')'); });
      return Open(into);
    }
    if (Take("${")) {
      Deeper([this, in_quotes] { Braced(in_quotes); });
      return Open(into);
    }
    if (!in_quotes && Starts("$'")) {
      at_ += 2;
      while (!AtEnd() && Peek() != '\'') at_ += Peek() == '\\' ? 2 : 1;
      if (AtEnd()) return Doubt("a quote without an end");
      ++at_;
      into.quoted = true;
      return Open(into);
    }
    if (!in_quotes && Starts("$\"")) {
      ++at_;
      return;
    }
    if (Starts("$[")) return Doubt("an old form of arithmetic");
    ++at_;
    const char c = Peek();
    if (!AtEnd() && (IsDigit(c) || std::string_view("@*#?-$!").find(c) != std::string_view::npos)) {
      ++at_;
      return Open(into);
    }
    if (!AtEnd() && IsNameByte(c)) {
      while (!AtEnd() && IsNameByte(Peek())) ++at_;
      return Open(into);
    }
    into.text += u'$';
  }

  // `${...}`: up to its brace. What is nested in it may run commands. Within double quotes, quotes in it mean
  // now this and now that.
  void Braced(bool in_quotes) {
    const size_t begin = at_;
    if (!IsNameByte(Peek()) && std::string_view("#!@*?-$").find(Peek()) == std::string_view::npos) {
      return Doubt("an odd `${`");
    }
    while (!AtEnd()) {
      const char c = Peek();
      if (c == '}') {
        // ${x@P} expands the value once more.
        if (text_.substr(begin, at_ - begin).find("@P") != std::string_view::npos) return Doubt("a `${x@P}`");
        ++at_;
        return;
      }
      if (in_quotes && (c == '\'' || c == '"' || c == '\\')) return Doubt("quotes in a `${` in quotes");
      Nested(c, in_quotes);
    }
    Doubt("something unfinished");
  }

  // `$((...))`: up to its brackets.
  void Arithmetic() {
    size_t open = 0;
    while (!AtEnd()) {
      const char c = Peek();
      if (c == '$' || c == '`') {
        Nested(c, /*in_quotes=*/true);
      } else if (c == ')' && open == 0) {
        // Otherwise it was a subshell within a substitution.
        if (!Take("))")) Doubt("arithmetic or a subshell");
        return;
      } else if (IsNameByte(c) ||
                 std::string_view(" \t+-*/%<>=!&|^~?:,()#").find(c) != std::string_view::npos) {
        open += c == '(' ? 1 : c == ')' ? static_cast<size_t>(-1) : 0;
        ++at_;
      } else {
        return Doubt("odd arithmetic");
      }
    }
    Doubt("something unfinished");
  }

  void Nested(char c, bool in_quotes) {
    Word unused;
    if (c == '\'') {
      SingleQuoted(unused);
    } else if (c == '"') {
      ++at_;
      Expandable('"', nullptr);
    } else if (c == '$') {
      Dollar(nullptr, in_quotes);
    } else if (c == '`') {
      Backticks(nullptr);
    } else if (StartsSubstitution()) {
      Doubt("a process substitution within an expansion");
    } else {
      at_ = std::min(at_ + (c == '\\' ? 2 : 1), text_.size());
    }
  }

  void Backticks(Word* word) {
    std::string inner;
    for (++at_; !AtEnd() && Peek() != '`'; ++at_) {
      if (Peek() == '\\' && (Peek(1) == '`' || Peek(1) == '\\' || Peek(1) == '$')) ++at_;
      inner += Peek();
    }
    if (AtEnd()) return Doubt("a quote without an end");
    ++at_;
    // Within double quotes `\"` means more than here.
    if (inner.find('\\') != std::string::npos) return Doubt("backslashes within backticks");
    if (!documents_.empty() && inner.find('\n') != std::string::npos)
      return Doubt("a line break before a here-document");
    Again(inner);
    if (word != nullptr) Open(*word);
  }

  // --- What a command runs

  // Commands in a text that this line hands to a shell.
  void Again(std::string_view commands) {
    if (!out_.certain) return;
    Parser(commands, depth_ + 1, units_, out_).All();
    if (!out_.certain) Doubt(out_.doubt);
  }

  void Add(SimpleCommand command) {
    if (out_.commands.size() >= CommandLine::kCommandsMax) return Doubt("too many commands");
    Count(command.text);
    for (const OpenText& form : command.also) Count(form);
    out_.commands.push_back(std::move(command));
  }

  void Count(const OpenText& form) {
    units_ += form.size() + 1;
    if (units_ > CommandLine::kFormUnitsMax) Doubt("too long");
  }

  void Emit(const std::vector<Word>& words) {
    if (words.empty()) return;
    size_t program = 0;
    while (program < words.size() && words[program].name_end > 0) ++program;
    SimpleCommand command{.text = Joined(words, 0, Quoted)};
    if (program == words.size()) {
      command.also.push_back(Joined(words, 0, Plain));
      return Add(std::move(command));
    }
    if (words[program].open) return Doubt("a command named by an expansion");
    command.also = Forms(words, program);
    Add(std::move(command));
    if (out_.certain) Inspect(words, program, /*within=*/false);
  }

  using Form = OpenText (*)(const OpenText&);
  static OpenText Joined(const std::vector<Word>& words, size_t from, Form form) {
    OpenText text;
    bool assignments = from == 0;  // so far nothing else
    for (size_t i = from; i < words.size(); ++i) {
      const Word& word = words[i];
      if (i > from) text += u' ';
      if (assignments && word.name_end > 0) {
        const OpenText value = word.text.substr(word.name_end + 1);
        text += word.text.substr(0, word.name_end + 1) + (value.empty() ? value : form(value));
        continue;
      }
      // A program by the name of an assignment is none.
      const bool odd = assignments && form == Quoted && word.text.find(u'=') != OpenText::npos;
      text += odd ? InQuotes(word.text) : form(word.text);
      assignments = false;
    }
    return text;
  }

  // The words from `from` on, as a rule that forbids may have meant them.
  static std::vector<OpenText> Forms(const std::vector<Word>& words, size_t from) {
    std::vector<OpenText> forms = {Joined(words, from, Quoted), Joined(words, from, Plain)};
    const OpenText& name = words[from].text;
    const size_t slash = name.rfind(u'/');
    if (slash == OpenText::npos) return forms;
    for (size_t i = 0; i < 2; ++i) {
      OpenText rest = from + 1 < words.size()
                          ? u" " + (i == 0 ? Joined(words, from + 1, Quoted) : Joined(words, from + 1, Plain))
                          : u"";
      forms.push_back(name.substr(slash + 1) + rest);
    }
    return forms;
  }

  static std::string Program(const Word& word) {
    std::string name = word.Bytes();
    const size_t slash = name.rfind('/');
    return slash == std::string::npos ? name : name.substr(slash + 1);
  }

  // What the program at word `at` runs in its turn; `within`: it is itself run by another.
  void Inspect(const std::vector<Word>& words, size_t at, bool within) {
    const std::string name = Program(words[at]);
    if (Among(kShells, name)) return Shell(words, at);
    if (name == "eval") return Eval(words, at + 1);
    if (name == "trap") return Trap(words, at + 1);
    if (name == "alias" || name == "enable" || name == "hash") return Doubt("a `" + name + "`");
    if (name == "source" || name == ".") return Script(words, at + 1);
    if (Among(kEvaluators, name)) {
      for (const Word& word : words) {
        if (HoldsCommands(word.text)) return Doubt("a text that `" + name + "` may evaluate");
      }
    }
    if (Among(kRunners, name) && !within) Runner(words, at);
  }

  // Any of its arguments may begin the command that it runs, and more arguments may come from its input.
  void Runner(const std::vector<Word>& words, size_t at) {
    const size_t own = out_.commands.size() - 1;
    for (size_t i = at + 1; i < words.size() && out_.certain; ++i) {
      for (OpenText& form : Forms(words, i)) {
        form += OpenText(u" ") + kHole;
        Count(form);
        if (!out_.certain) return;
        out_.commands[own].also.push_back(std::move(form));
      }
    }
    for (size_t i = at + 1; i < words.size() && out_.certain; ++i) {
      if (!words[i].open) Inspect(words, i, /*within=*/true);
    }
  }

  void Shell(const std::vector<Word>& words, size_t at) {
    bool text = false;
    for (size_t i = at + 1; i < words.size(); ++i) {
      if (words[i].open) return Doubt("a shell with an expansion before its commands");
      const std::string word = words[i].Bytes();
      if (word == "--version" || word == "--help") return;
      if (word.size() < 2 || (word[0] != '-' && word[0] != '+')) {
        return text ? Again(word) : Script(words, i);
      }
      if (word.starts_with("--") || word.find_first_of("oO") != std::string::npos) {
        return Doubt("a shell with options of its own");
      }
      if (word[0] == '-' && word.find('c') != std::string::npos) text = true;
      if (word.find('s') != std::string::npos) return Doubt("a shell that reads its commands");
    }
    Doubt("a shell that reads its commands");
  }

  // A file with commands is as any program, but for one that is made on the way.
  void Script(const std::vector<Word>& words, size_t at) {
    if (at >= words.size()) return;
    const std::string path = words[at].open ? "" : words[at].Bytes();
    if (path.empty() || path == "-" || path.starts_with("/dev/") || path.starts_with("/proc/")) {
      Doubt("a shell that reads its commands");
    }
  }

  void Trap(const std::vector<Word>& words, size_t from) {
    if (from >= words.size()) return;
    if (words[from].open) return Doubt("a `trap` of an expansion");
    Again(words[from].Bytes());
  }

  void Eval(const std::vector<Word>& words, size_t from) {
    std::string commands;
    for (size_t i = from; i < words.size(); ++i) {
      if (words[i].open) return Doubt("an `eval` of an expansion");
      commands += words[i].Bytes() + " ";
    }
    Again(commands);
  }

  const std::string_view text_;
  size_t at_ = 0;
  size_t depth_;
  size_t& units_;  // of all forms of the line so far
  CommandLine& out_;
  std::vector<Document> documents_;  // whose lines have not come yet
  size_t unfolded_end_ = 0;          // up to here no brace expansion
  bool ended_ = false;               // a word of the grammar ended its command
};

}  // namespace

CommandLine TakeApart(std::string_view line) {
  CommandLine out;
  if (line.size() > CommandLine::kBytesMax || line.find('\0') != std::string_view::npos) {
    out.certain = false;
    out.doubt = line.size() > CommandLine::kBytesMax ? "too long" : "a NUL byte";
    return out;
  }
  size_t units = 0;
  Parser(line, 0, units, out).All();
  return out;
}

}  // namespace holdfast::tools

#include "model/json.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "base/check.h"
#include "model/text/utf8.h"

namespace holdfast::model {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Whether a decimal that fits no finite double is too large rather than too small: the decimal exponent of
// its first digit that is not zero.
bool IsOverflow(std::string_view text) {
  const size_t e = text.find_first_of("eE");
  const std::string_view mantissa = text.substr(0, e);
  if (e != std::string_view::npos) return text[e + 1] != '-';
  const size_t point = mantissa.find('.');
  const size_t first = mantissa.find_first_of("123456789");
  return first < point;
}

double ParseDouble(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc::result_out_of_range) return value;
  const double magnitude = IsOverflow(text) ? std::numeric_limits<double>::infinity() : 0.0;
  return text[0] == '-' ? -magnitude : magnitude;
}

// Python's repr of a finite double: the shortest digits that round trip, fixed from 1e-4 to below 1e16.
std::string FloatRepr(double value) {
  std::array<char, 40> buffer;
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer.data(), static_cast<size_t>(end - buffer.data()));
  const size_t e = text.find('e');
  int exponent = 0;
  const size_t exponent_at = e + (text[e + 1] == '+' ? 2 : 1);
  std::from_chars(text.data() + exponent_at, text.data() + text.size(), exponent);
  if (exponent < -4 || exponent >= 16) return std::string(text);

  std::string sign, digits;
  for (const char c : text.substr(0, e)) {
    if (c == '-') sign = "-";
    if (IsDigit(c)) digits.push_back(c);
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) digits.append(whole + 1 - digits.size(), '0');
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

void QuoteTo(std::string_view text, std::string* out) {
  out->push_back('"');
  for (const char c : text) {
    switch (c) {
      case '"':
        out->append("\\\"");
        break;
      case '\\':
        out->append("\\\\");
        break;
      case '\n':
        out->append("\\n");
        break;
      case '\r':
        out->append("\\r");
        break;
      case '\t':
        out->append("\\t");
        break;
      case '\b':
        out->append("\\b");
        break;
      case '\f':
        out->append("\\f");
        break;
      default:
        if (static_cast<uint8_t>(c) < 0x20) {
          constexpr char kHex[] = "0123456789abcdef";
          out->append("\\u00");
          out->push_back(kHex[static_cast<uint8_t>(c) >> 4]);
          out->push_back(kHex[c & 15]);
        } else {
          out->push_back(c);
        }
    }
  }
  out->push_back('"');
}

}  // namespace

// Recursive descent; the recursion is bounded by Json::kMaxDepth.
class JsonParser {
 public:
  explicit JsonParser(std::string_view text) : text_(text) {}

  base::StatusOr<Json> Document() {
    const size_t valid = ValidUtf8Prefix(text_);
    if (valid != text_.size()) {
      at_ = valid;
      return Error("invalid UTF-8");
    }
    Json value;
    HF_RETURN_IF_ERROR(Value(0, &value));
    SkipSpace();
    if (at_ != text_.size()) return Error("more text after the value");
    return value;
  }

 private:
  base::Status Error(std::string_view what) const {
    return base::InvalidArgument("json: " + std::string(what) + " at byte " + std::to_string(at_));
  }
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool Take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  void SkipSpace() {
    while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != std::string_view::npos)
      ++at_;
  }

  base::Status Value(int depth, Json* out) {
    if (depth >= Json::kMaxDepth) return Error("nested too deeply");
    SkipSpace();
    switch (Peek()) {
      case '{':
        return Members(depth, out);
      case '[':
        return Items(depth, out);
      case '"':
        *out = Json::String("");
        return String(&out->text_);
      default:
        return Scalar(out);
    }
  }

  base::Status Scalar(Json* out) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    if (Take("null")) {
      *out = Json();
    } else if (Take("true")) {
      *out = Json::Bool(true);
    } else if (Take("false")) {
      *out = Json::Bool(false);
    } else if (Take("NaN")) {
      *out = Json::Float(std::numeric_limits<double>::quiet_NaN());
    } else if (Take("Infinity")) {
      *out = Json::Float(kInfinity);
    } else if (Take("-Infinity")) {
      *out = Json::Float(-kInfinity);
    } else {
      return Number(out);
    }
    return {};
  }

  size_t TakeDigits() {
    const size_t start = at_;
    while (IsDigit(Peek())) ++at_;
    return at_ - start;
  }

  base::Status Number(Json* out) {
    const size_t start = at_;
    if (Peek() == '-') ++at_;
    if (!IsDigit(Peek())) return Error("expected a value");
    if (Peek() == '0') {
      ++at_;
    } else {
      TakeDigits();
    }
    const bool has_fraction = TakeFraction(), has_exponent = TakeExponent();
    const std::string_view number = text_.substr(start, at_ - start);
    *out = Json::Float(ParseDouble(number));
    if (has_fraction || has_exponent) return {};
    out->kind_ = Json::Kind::kInt;
    out->text_ = number == "-0" ? "0" : std::string(number);
    return {};
  }

  // A '.' without digits, or an 'e' without an exponent, is left for the caller to stumble over.
  bool TakeFraction() {
    const size_t start = at_;
    if (Peek() == '.') {
      ++at_;
      if (TakeDigits() > 0) return true;
    }
    at_ = start;
    return false;
  }
  bool TakeExponent() {
    const size_t start = at_;
    if (Peek() == 'e' || Peek() == 'E') {
      ++at_;
      if (Peek() == '+' || Peek() == '-') ++at_;
      if (TakeDigits() > 0) return true;
    }
    at_ = start;
    return false;
  }

  base::Status String(std::string* out) {
    ++at_;  // the opening quote
    for (;;) {
      if (at_ >= text_.size()) return Error("unterminated string");
      const char c = text_[at_];
      if (static_cast<uint8_t>(c) < 0x20) return Error("control character in a string");
      ++at_;
      if (c == '"') return {};
      if (c != '\\') {
        out->push_back(c);
      } else {
        HF_RETURN_IF_ERROR(Escape(out));
      }
    }
  }

  base::Status Escape(std::string* out) {
    constexpr std::string_view kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
    const char c = Peek();
    if (const size_t i = kFrom.find(c); c != '\0' && i != std::string_view::npos) {
      ++at_;
      out->push_back(kTo[i]);
      return {};
    }
    const std::optional<uint32_t> unit = CodeUnit();
    if (!unit) return Error("bad escape in a string");
    uint32_t code = *unit;
    if (code >= 0xD800 && code < 0xE000) {
      const size_t after = at_;
      const std::optional<uint32_t> low = code < 0xDC00 && Take("\\") ? CodeUnit() : std::nullopt;
      if (low && *low >= 0xDC00 && *low < 0xE000) {
        code = 0x10000 + ((code - 0xD800) << 10) + (*low - 0xDC00);
      } else {
        at_ = after;
        code = 0xFFFD;
      }
    }
    AppendUtf8(code, out);
    return {};
  }

  // `uXXXX`; nothing is taken when it is not there.
  std::optional<uint32_t> CodeUnit() {
    if (Peek() != 'u' || text_.size() - at_ < 5) return std::nullopt;
    uint32_t value = 0;
    const char* begin = text_.data() + at_ + 1;
    const auto [end, error] = std::from_chars(begin, begin + 4, value, 16);
    if (error != std::errc() || end != begin + 4) return std::nullopt;
    at_ += 5;
    return value;
  }

  base::Status Items(int depth, Json* out) {
    *out = Json::Array();
    ++at_;
    SkipSpace();
    if (Take("]")) return {};
    for (;;) {
      HF_RETURN_IF_ERROR(Value(depth + 1, &out->items_.emplace_back()));
      SkipSpace();
      if (Take("]")) return {};
      if (!Take(",")) return Error("expected ',' or ']'");
    }
  }

  base::Status Members(int depth, Json* out) {
    *out = Json::Object();
    absl::flat_hash_map<std::string, size_t> places;
    ++at_;
    SkipSpace();
    if (Take("}")) return {};
    for (;;) {
      SkipSpace();
      if (Peek() != '"') return Error("expected a member name");
      std::string key;
      HF_RETURN_IF_ERROR(String(&key));
      SkipSpace();
      if (!Take(":")) return Error("expected ':'");
      const auto [place, is_new] = places.try_emplace(key, out->items_.size());
      if (is_new) {
        out->keys_.push_back(std::move(key));
        out->items_.emplace_back();
      }
      HF_RETURN_IF_ERROR(Value(depth + 1, &out->items_[place->second]));
      SkipSpace();
      if (Take("}")) return {};
      if (!Take(",")) return Error("expected ',' or '}'");
    }
  }

  const std::string_view text_;
  size_t at_ = 0;
};

Json Json::Bool(bool value) {
  Json json;
  json.kind_ = Kind::kBool;
  json.number_ = value ? 1 : 0;
  return json;
}

Json Json::Int(int64_t value) {
  Json json;
  json.kind_ = Kind::kInt;
  json.number_ = static_cast<double>(value);
  json.text_ = std::to_string(value);
  return json;
}

Json Json::Float(double value) {
  Json json;
  json.kind_ = Kind::kFloat;
  json.number_ = value;
  return json;
}

Json Json::String(std::string_view value) {
  Json json;
  json.kind_ = Kind::kString;
  json.text_ = value;
  return json;
}

Json Json::Array() {
  Json json;
  json.kind_ = Kind::kArray;
  return json;
}

Json Json::Object() {
  Json json;
  json.kind_ = Kind::kObject;
  return json;
}

base::StatusOr<Json> Json::Parse(std::string_view text) { return JsonParser(text).Document(); }

bool Json::Truthy() const {
  switch (kind_) {
    case Kind::kNull:
      return false;
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      return number_ != 0;
    case Kind::kString:
      return !text_.empty();
    case Kind::kArray:
    case Kind::kObject:
      return !items_.empty();
  }
  return false;
}

const Json* Json::Find(std::string_view key) const {
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (keys_[i] == key) return &items_[i];
  }
  return nullptr;
}

void Json::Set(std::string_view key, Json value) {
  HF_CHECK(is_object());
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (keys_[i] == key) {
      items_[i] = std::move(value);
      return;
    }
  }
  keys_.emplace_back(key);
  items_.push_back(std::move(value));
}

std::string Json::Dump() const {
  std::string out;
  DumpTo(&out);
  return out;
}

void Json::DumpTo(std::string* out) const {
  switch (kind_) {
    case Kind::kNull:
      out->append("null");
      return;
    case Kind::kBool:
      out->append(boolean() ? "true" : "false");
      return;
    case Kind::kInt:
      out->append(text_);
      return;
    case Kind::kFloat:
      if (std::isnan(number_)) {
        out->append("NaN");
      } else if (std::isinf(number_)) {
        out->append(number_ < 0 ? "-Infinity" : "Infinity");
      } else {
        out->append(FloatRepr(number_));
      }
      return;
    case Kind::kString:
      QuoteTo(text_, out);
      return;
    case Kind::kArray:
    case Kind::kObject:
      break;
  }
  out->push_back(is_array() ? '[' : '{');
  for (size_t i = 0; i < items_.size(); ++i) {
    if (i > 0) out->append(", ");
    if (is_object()) {
      QuoteTo(keys_[i], out);
      out->append(": ");
    }
    items_[i].DumpTo(out);
  }
  out->push_back(is_array() ? ']' : '}');
}

std::string JsonQuote(std::string_view text) {
  std::string out;
  QuoteTo(text, &out);
  return out;
}

}  // namespace holdfast::model

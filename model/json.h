// A JSON value as Python's json module reads and writes it: members keep their order, integers keep their
// digits, floats print as Python's repr. The chat encoding needs exactly that (docs: chat format,
// json.dumps).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace holdfast::model {

// A plain value: copies are deep; const access is safe from any thread.
class Json {
 public:
  enum class Kind : uint8_t { kNull, kBool, kInt, kFloat, kString, kArray, kObject };

  // Values nested deeper than this are refused.
  static constexpr int kMaxDepth = 256;

  Json() = default;  // null
  static Json Bool(bool value);
  static Json Int(int64_t value);
  static Json Float(double value);
  static Json String(std::string_view value);
  static Json Array();
  static Json Object();

  // json.loads: strict JSON, plus NaN, Infinity and -Infinity. A repeated key keeps its first place and its
  // last value; a float beyond a double's range is Infinity; half of a surrogate pair is U+FFFD.
  // InvalidArgument with the byte offset for anything else, and for invalid UTF-8. Linear in the text.
  static base::StatusOr<Json> Parse(std::string_view text);

  // json.dumps(value, ensure_ascii=False): separators ", " and ": ".
  std::string Dump() const;

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::kNull; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_array() const { return kind_ == Kind::kArray; }
  bool is_object() const { return kind_ == Kind::kObject; }
  // Python's bool(value): false for null, false, zero, and the empty string, array and object.
  bool Truthy() const;

  bool boolean() const { return number_ != 0; }              // of a kBool
  double number() const { return number_; }                  // of a kInt (rounded) or kFloat
  const std::string& text() const { return text_; }          // a string's characters, an integer's digits
  const std::vector<Json>& items() const { return items_; }  // array items, or member values
  const std::vector<std::string>& keys() const { return keys_; }  // member names, parallel to items()

  // The member `key` of an object; null when absent or when this is no object. Linear in the members.
  const Json* Find(std::string_view key) const;
  // Sets member `key` of an object: in place when it is there, else at the end.
  void Set(std::string_view key, Json value);
  // Appends to an array.
  void Append(Json value) { items_.push_back(std::move(value)); }

 private:
  friend class JsonParser;
  void DumpTo(std::string* out) const;

  Kind kind_ = Kind::kNull;
  double number_ = 0;
  std::string text_;
  std::vector<Json> items_;
  std::vector<std::string> keys_;
};

// `text` as a JSON string with its quotes, escaped as json.dumps(ensure_ascii=False) does.
std::string JsonQuote(std::string_view text);

}  // namespace holdfast::model

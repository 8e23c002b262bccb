#include "sandbox/client/redactor.h"

#include <algorithm>
#include <utility>

namespace holdfast::sandbox {

SecretSet::SecretSet(std::vector<Secret> secrets) : secrets_(std::move(secrets)) {
  std::stable_sort(secrets_.begin(), secrets_.end(),
                   [](const Secret& a, const Secret& b) { return a.value.size() > b.value.size(); });
  for (const Secret& secret : secrets_) starts_[static_cast<unsigned char>(secret.value[0])] = true;
}

SecretSet::Match SecretSet::Find(std::string_view text) const {
  Match match;
  for (const Secret& secret : secrets_) {
    if (text.starts_with(secret.value)) {
      match.secret = &secret;
      return match;  // longer ones came before, and are undecided or do not match
    }
    if (std::string_view(secret.value).starts_with(text)) match.undecided = true;
  }
  return match;
}

void Redactor::Feed(std::string_view bytes, std::string& out) {
  if (secrets_.empty()) {
    out.append(bytes);
    return;
  }
  if (held_.empty()) {
    Scan(bytes, false, out);
    return;
  }
  std::string text = std::exchange(held_, {});
  text.append(bytes);
  Scan(text, false, out);
}

void Redactor::Finish(std::string& out) {
  const std::string text = std::exchange(held_, {});
  Scan(text, true, out);
}

void Redactor::Scan(std::string_view text, bool last, std::string& out) {
  size_t plain = 0;  // from here on not yet appended
  size_t at = 0;
  while (at < text.size()) {
    if (!secrets_.CanStart(text[at])) {
      ++at;
      continue;
    }
    const SecretSet::Match match = secrets_.Find(text.substr(at));
    if (match.undecided && !last) break;
    if (match.secret == nullptr) {
      ++at;
      continue;
    }
    out.append(text.substr(plain, at - plain));
    out.append("\xC2\xABredacted:" + match.secret->name + "\xC2\xBB");
    at += match.secret->value.size();
    plain = at;
  }
  out.append(text.substr(plain, at - plain));
  held_.assign(text.substr(at));
}

}  // namespace holdfast::sandbox

// What happened in a session as Markdown, for reading; and what else its record names.
//
// Threads: any.
#pragma once

#include <string>

#include "model/tokenizer.h"
#include "sessions/event.h"
#include "sessions/session_export.h"

namespace holdfast::server {

// Appends what a person wants to read of an event: what was said, called, planned and changed; nothing for
// the rest. Texts are UTF-8 and bounded as events of the API are.
void AppendMarkdown(const sessions::Event& event, const model::Tokenizer& tokenizer, std::string& out);

// sessions::AddNamedObjects, and those that the agent's events name.
void AddAllNamedObjects(const sessions::EventBody& body, sessions::NamedObjects& named);

}  // namespace holdfast::server

// Reads command lines, each ended by a NUL byte, and prints for each what tools::TakeApart makes of it, one
// JSON line: {"certain": true, "commands": ["061020062"]}, with three hexadecimal digits for each unit.
#include <cstdio>
#include <string>

#include "tools/command_line.h"

namespace {

using holdfast::tools::OpenText;

void PrintText(const OpenText& text, bool first) {
  std::printf("%s\"", first ? "" : ", ");
  for (const char16_t unit : text) std::printf("%03x", static_cast<unsigned>(unit));
  std::printf("\"");
}

void Print(const std::string& line) {
  const auto apart = holdfast::tools::TakeApart(line);
  std::printf("{\"certain\": %s, \"commands\": [", apart.certain ? "true" : "false");
  bool first = true;
  for (const auto& command : apart.commands) {
    PrintText(command.text, first);
    first = false;
  }
  std::printf("]}\n");
}

}  // namespace

int main() {
  std::string line;
  for (int c = std::getchar(); c != EOF; c = std::getchar()) {
    if (c != 0) {
      line += static_cast<char>(c);
    } else {
      Print(line);
      line.clear();
    }
  }
  return 0;
}

# cmake -DOUTPUT=x.cc -DNAMESPACE=a::b -DFOLDER=dir -DFILES=one.json,two.json -P EmbedFiles.cmake
# Writes a source file that holds the files byte for byte, for `std::span<const EmbeddedFile> EmbeddedFiles()`.
string(REPLACE "," ";" files "${FILES}")
list(SORT files)
set(rows "")
foreach(name IN LISTS files)
  file(READ "${FOLDER}/${name}" hex HEX)
  string(LENGTH "${hex}" digits)
  math(EXPR bytes "${digits} / 2")
  # As octal-free hex escapes, one literal a byte run: a raw literal cannot hold every byte.
  string(REGEX REPLACE "(..)" "\\\\x\\1" escaped "${hex}")
  # Literals of 16 bytes each, so that no escape runs into a following digit.
  string(REGEX REPLACE "((\\\\x..)(\\\\x..)?(\\\\x..)?(\\\\x..)?(\\\\x..)?(\\\\x..)?(\\\\x..)?(\\\\x..)?)" "\n        \"\\1\"" literals "${escaped}")
  string(APPEND rows "    {\"${name}\", std::string_view(${literals}, ${bytes})},\n")
endforeach()
file(WRITE "${OUTPUT}.new" "// Made by cmake/EmbedFiles.cmake.
#include <iterator>

#include \"tools/tool_data.h\"

namespace ${NAMESPACE} {
namespace {

constexpr EmbeddedFile kFiles[] = {
${rows}};

}  // namespace

std::span<const EmbeddedFile> EmbeddedFiles() { return kFiles; }

}  // namespace ${NAMESPACE}
")
file(RENAME "${OUTPUT}.new" "${OUTPUT}")

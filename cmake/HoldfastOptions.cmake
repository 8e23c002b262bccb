# Language level, warnings, sanitizers, compiler cache and linker: what every target shares.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

option(HOLDFAST_BUILD_TESTS "Build the tests" ON)
option(HOLDFAST_BUILD_FUZZERS "Build libFuzzer targets (needs clang)" OFF)
option(HOLDFAST_WERROR "Treat warnings as errors" OFF)
set(HOLDFAST_SANITIZE "" CACHE STRING "Sanitizers, as in -fsanitize=: address,undefined or thread")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()

find_program(HOLDFAST_CCACHE ccache)
if(HOLDFAST_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${HOLDFAST_CCACHE}")
endif()
find_program(HOLDFAST_MOLD mold)
if(HOLDFAST_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# A contracted a*b+c is a different float from one compiler to the next; results are part of the
# KV store's identity, so fusing happens only where the code says so (docs/invariance.md).
add_compile_options(-ffp-contract=off -fno-math-errno)
add_compile_options(-Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers)
if(HOLDFAST_WERROR)
  add_compile_options(-Werror)
endif()
if(HOLDFAST_SANITIZE)
  add_compile_options(-fsanitize=${HOLDFAST_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${HOLDFAST_SANITIZE})
endif()
if(HOLDFAST_BUILD_FUZZERS)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

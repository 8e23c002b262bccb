# holdfast_library(<folder> SOURCES ... [DEPS ...]): the one target of a folder, alias holdfast::<folder>.
function(holdfast_library folder)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(holdfast_${folder} STATIC ${ARG_SOURCES})
  add_library(holdfast::${folder} ALIAS holdfast_${folder})
  target_include_directories(holdfast_${folder} PUBLIC "${PROJECT_SOURCE_DIR}")
  target_link_libraries(holdfast_${folder} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
endfunction()

# holdfast_test(<name> SOURCES ... [DEPS ...] [LABELS unit] [TIMEOUT seconds]): one GoogleTest binary,
# each of its tests a CTest test. Labels: unit simulation integration sandbox fuzz_smoke bench_smoke gpu slow,
# and concurrency for what ThreadSanitizer should see. Several labels are given as a list: LABELS unit concurrency.
function(holdfast_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 900)  # the longest takes 260 s under a sanitizer on two busy cores
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_compile_definitions(${name} PRIVATE HOLDFAST_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock_main)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT ${ARG_TIMEOUT})
  # gtest_discover_tests loses all labels but the first, so they are set after the discovery.
  set(labels_file "${CMAKE_CURRENT_BINARY_DIR}/${name}_labels.cmake")
  file(WRITE "${labels_file}"
    "foreach(test IN LISTS ${name}_TESTS)\n"
    "  set_tests_properties(\"\${test}\" PROPERTIES LABELS \"${ARG_LABELS}\")\n"
    "endforeach()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${labels_file}")
  # `cmake --build DIR --target tests_concurrency` builds the tests of one label only.
  foreach(label IN LISTS ARG_LABELS)
    if(NOT TARGET tests_${label})
      add_custom_target(tests_${label})
    endif()
    add_dependencies(tests_${label} ${name})
  endforeach()
endfunction()

# holdfast_run_as_user_too(<name>): the tests of a binary that starts sandboxes once more, as an ordinary user when the
# caller is root, under the prefix AsUser. Its main() calls BecomeOrdinaryUserIfAsked (tests/support/ordinary_user.h).
function(holdfast_run_as_user_too name)
  add_dependencies(${name} holdfast-sandbox)
  target_compile_definitions(${name} PRIVATE HOLDFAST_SANDBOX_BROKER="$<TARGET_FILE:holdfast-sandbox>")
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 TEST_PREFIX AsUser. TEST_LIST ${name}_as_user
    PROPERTIES TIMEOUT 300 LABELS sandbox ENVIRONMENT HOLDFAST_SANDBOX_TEST_AS_USER=1)
endfunction()

# holdfast_fuzzer(<name>_fuzz SOURCES <name>_fuzz.cc DEPS ...): a libFuzzer target, built by the fuzz preset only.
# The target is named as its source file; scripts/test looks for it so, and seeds it from tests/fuzz/corpus/<name>_fuzz/.
function(holdfast_fuzzer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  if(HOLDFAST_BUILD_FUZZERS)
    add_executable(${name} ${ARG_SOURCES})
    target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
    target_link_libraries(${name} PRIVATE ${ARG_DEPS})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    if(NOT TARGET fuzzers)
      add_custom_target(fuzzers)
    endif()
    add_dependencies(fuzzers ${name})
  endif()
endfunction()

# holdfast_library(<folder> SOURCES ... [DEPS ...]): the one target of a folder, alias holdfast::<folder>.
function(holdfast_library folder)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(holdfast_${folder} STATIC ${ARG_SOURCES})
  add_library(holdfast::${folder} ALIAS holdfast_${folder})
  target_include_directories(holdfast_${folder} PUBLIC "${PROJECT_SOURCE_DIR}")
  target_link_libraries(holdfast_${folder} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
endfunction()

# holdfast_test(<name> SOURCES ... [DEPS ...] [LABELS unit] [TIMEOUT seconds]): one GoogleTest binary,
# each of its tests a CTest test. Labels: unit simulation integration sandbox fuzz_smoke bench_smoke gpu slow.
function(holdfast_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_compile_definitions(${name} PRIVATE HOLDFAST_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock_main)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST
    PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
endfunction()

# holdfast_fuzzer(<name> SOURCES ... DEPS ...): a libFuzzer target, built by the fuzz preset only.
function(holdfast_fuzzer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  if(HOLDFAST_BUILD_FUZZERS)
    add_executable(${name} ${ARG_SOURCES})
    target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
    target_link_libraries(${name} PRIVATE ${ARG_DEPS})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  endif()
endfunction()

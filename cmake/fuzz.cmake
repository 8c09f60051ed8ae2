# The parsers under libFuzzer (tests fuzz.*, label fuzz): they and their test are compiled by clang, the rest is what the program is made of. Built by the test fuzz.build, not by `all`.
set(fuzz_seconds 12)  # each parser
set(fuzzed harness/toml_file.cpp harness/suite.cpp harness/gate_policy.cpp harness/plan.cpp harness/shard.cpp harness/record.cpp reference/witness.cpp kernels/primitives/measured.cpp)
set(fuzz ${CMAKE_BINARY_DIR}/fuzz)

find_program(PRNN_CLANG clang++)
set(missing clang++)
if(PRNN_CLANG)
  file(CONFIGURE OUTPUT ${fuzz}/nothing.cpp CONTENT "extern \"C\" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }\n")
  execute_process(COMMAND ${PRNN_CLANG} -fsanitize=fuzzer,address,undefined ${fuzz}/nothing.cpp -o ${fuzz}/nothing RESULT_VARIABLE missing OUTPUT_QUIET ERROR_QUIET)
endif()
if(missing)
  foreach(test IN ITEMS build suite policy record witness measured)
    add_test(NAME fuzz.${test} COMMAND ${CMAKE_COMMAND} -E echo "no libFuzzer here: it comes with the packages clang and libclang-rt-dev")
    set_tests_properties(fuzz.${test} PROPERTIES LABELS fuzz SKIP_REGULAR_EXPRESSION "no libFuzzer")
  endforeach()
  return()
endif()

set(flags -std=c++20 -gline-tables-only -O0 -fsanitize=fuzzer-no-link,address,undefined,float-cast-overflow -fno-sanitize-recover=all -ffp-contract=off)
get_target_property(eigen Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)
list(TRANSFORM eigen PREPEND -isystem)
set(includes -I${CMAKE_SOURCE_DIR} -I${CMAKE_BINARY_DIR}/generated ${eigen})
foreach(source IN LISTS fuzzed ITEMS harness/parsers.test.cpp)
  set(object ${fuzz}/${source}.o)
  cmake_path(GET object PARENT_PATH folder)
  file(MAKE_DIRECTORY ${folder})
  add_custom_command(OUTPUT ${object} DEPFILE ${object}.d DEPENDS ${CMAKE_SOURCE_DIR}/${source} prnn_build_info VERBATIM COMMAND_EXPAND_LISTS
                     COMMAND ${PRNN_CLANG} ${flags} ${includes} -DPRNN_LIBFUZZER -MD -MF ${object}.d -c ${CMAKE_SOURCE_DIR}/${source} -o ${object})
  list(APPEND objects ${object})
endforeach()
list(JOIN fuzzed "|" instrumented)
string(REPLACE "." "\\." instrumented "${instrumented}")
set(others "$<FILTER:$<TARGET_OBJECTS:prnn_host>;$<TARGET_OBJECTS:prnn_around>,EXCLUDE,(${instrumented})\\.o$|\\.gch$>")
add_custom_command(OUTPUT ${fuzz}/prnn_fuzz DEPENDS ${objects} prnn_host prnn_around VERBATIM COMMAND_EXPAND_LISTS
                   COMMAND ${PRNN_CLANG} -fsanitize=fuzzer,address,undefined ${objects} "${others}" ${PRNN_LIB_mpfr} ${PRNN_LIB_gmp} ${PRNN_LIB_boost_context} ${PRNN_LIB_benchmark}
                           ${PRNN_LIB_gomp} $<TARGET_FILE:fmt::fmt> -ldl -lpthread -o ${fuzz}/prnn_fuzz)
add_custom_target(prnn_fuzz DEPENDS ${fuzz}/prnn_fuzz)

add_test(NAME fuzz.build COMMAND ${CMAKE_COMMAND} --build ${CMAKE_BINARY_DIR} --target prnn_fuzz)
set_tests_properties(fuzz.build PROPERTIES LABELS fuzz TIMEOUT 600 FIXTURES_SETUP fuzz)
# What is new goes to build/, to be copied to the corpus by hand; so does what failed (crash-*, timeout-*, oom-*).
foreach(parser IN ITEMS suite policy record witness measured)
  set(found ${fuzz}/${parser})
  file(MAKE_DIRECTORY ${found})
  set(corpus ${CMAKE_SOURCE_DIR}/harness/testdata/corpus/${parser})
  add_test(NAME fuzz.${parser} COMMAND ${fuzz}/prnn_fuzz -max_total_time=${fuzz_seconds} -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix=${found}-
                                       ${found} ${corpus}/accepted ${corpus}/refused)
  set_tests_properties(fuzz.${parser} PROPERTIES LABELS fuzz TIMEOUT 120 FIXTURES_REQUIRED fuzz ENVIRONMENT "PRNN_PARSER=${parser};ASAN_OPTIONS=detect_leaks=0")
endforeach()

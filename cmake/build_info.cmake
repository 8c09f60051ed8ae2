# build_info.cmake: writes what was built into a header, touching it only when something changed. Works without git.
execute_process(COMMAND git -C ${SOURCE_DIR} rev-parse HEAD OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
set(dirty false)
if(failed OR NOT commit)
  set(commit unknown)
  set(dirty true)  # nobody can say that it is clean
else()
  execute_process(COMMAND git -C ${SOURCE_DIR} status --porcelain -- . :!results OUTPUT_VARIABLE changes OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(changes)
    set(dirty true)
  endif()
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#define PRNN_COMMIT \"${commit}\"\n#define PRNN_DIRTY ${dirty}\n#define PRNN_COMPILER \"${COMPILER}\"\n#define PRNN_FLAGS \"${BUILD_TYPE} ${FLAGS}\"\n#define PRNN_CUDA_VERSION \"${CUDA}\"\n")

# embed_sources.cmake: writes what NVRTC compiles at run time into one file of C++ (kernels/runtime/sources.cpp includes it). SOURCE_DIR, OUTPUT, SOURCES (separated by |).
string(REPLACE "|" ";" sources "${SOURCES}")
set(text "")
foreach(source IN LISTS sources)
  file(READ ${SOURCE_DIR}/${source} content)
  string(APPEND text "{\"${source}\", R\"prnn_source(${content})prnn_source\"},\n")
endforeach()
file(WRITE ${OUTPUT} "${text}")

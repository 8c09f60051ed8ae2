// build_info.cpp: the one file that sees the generated header, so that a new commit recompiles nothing else.
#include "harness/build_info.hpp"

#if __has_include("build_info_generated.hpp")
#include "build_info_generated.hpp"
#endif
#ifndef PRNN_COMMIT
#define PRNN_COMMIT "unknown"
#endif
#ifndef PRNN_DIRTY
#define PRNN_DIRTY true
#endif
#ifndef PRNN_COMPILER
#define PRNN_COMPILER "g++ " __VERSION__
#endif
#ifndef PRNN_FLAGS
#define PRNN_FLAGS "unknown"
#endif
#ifndef PRNN_CUDA_VERSION
#define PRNN_CUDA_VERSION "none"
#endif
#ifndef PRNN_SOURCE_DIR
#define PRNN_SOURCE_DIR "."
#endif

namespace prnn {

const BuildInfo& build_info() {
  static const BuildInfo info{PRNN_COMMIT, PRNN_DIRTY, PRNN_COMPILER, PRNN_FLAGS, PRNN_CUDA_VERSION, PRNN_SOURCE_DIR};
  return info;
}

}  // namespace prnn

// build_info.hpp: what this program was built from and with; written into every record.
#pragma once

#include <string>

namespace prnn {

struct BuildInfo {
  std::string commit;  // 40 hexadecimal digits, or "unknown" outside a git checkout
  bool dirty = false;  // tracked files differed from the commit
  std::string compiler, flags;
  std::string cuda;    // toolkit version; "none": built without
  std::string source;  // root of the source tree, where plots/ and suites/ are
};
/// Commit and dirty are those of the last build: CMake writes build_info_generated.hpp before every one.
const BuildInfo& build_info();

}  // namespace prnn

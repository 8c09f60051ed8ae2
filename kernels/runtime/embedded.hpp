// embedded.hpp: the sources that the program carries, so that it can compile cells and kernels where nobody has them: a stripped binary alone is enough.
#pragma once

#include <string_view>
#include <vector>

namespace prnn {

struct SourceFile {
  std::string_view path, text;  // path: from the root of the tree, "kernels/cells/cell.hpp"
};

/// By path. What cmake/pack_sources.cmake packs: everything of kernels/ and reference/ but tests, tables of numbers and what only the emulator needs.
const std::vector<SourceFile>& embedded_sources();

}  // namespace prnn

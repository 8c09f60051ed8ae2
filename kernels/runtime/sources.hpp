// sources.hpp: the kernels' own sources, which the program carries: what NVRTC compiles where there is nothing but the program.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace prnn {

/// The text of a file, named from the root of the sources; empty: the program does not carry it.
std::string_view source_text(std::string_view path);

/// What a compiler needs for a translation unit: every file that it includes, and that those include, by the name that they are included by. A header of the
/// standard library is kernels/runtime/std.hpp. Files that are not carried are left out: the compiler says so.
std::map<std::string, std::string> included_by(std::string_view text);

}  // namespace prnn

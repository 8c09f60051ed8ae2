// source_lines.hpp: where in the sources an address of this program's code comes from, by the debug information that it was built with.
#pragma once

#include <string>

namespace prnn {

/// "kernels/x.cu:12" of the call that returns to an address: of the innermost function that is neither the system's nor the emulated GPU's, where several
/// were inlined. Empty: not known (no debug information, or no addr2line here).
std::string source_line(const void* return_address);
/// A function by its address, without namespace, template arguments and parameters. Empty: not known.
std::string function_name(const void* function);

}  // namespace prnn

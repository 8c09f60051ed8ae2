// cell_compiler.hpp: a user's header with one cell becomes a shared object (run --cell), made by the C++ compiler of this machine from the sources that the program carries.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "kernels/api.hpp"

namespace prnn {

/// The name, with its namespaces, of the one struct in a C++ text that has a step(); throws BadInput, which names `header`, where there is none or more than one.
std::string cell_type(const std::string& header, std::string_view text);

/// What a compiler said of a header, as one line that names place, fault and, for a rule (kernels/cells/rules.hpp), what is expected. The first error counts.
std::string first_error(const std::string& header, const std::string& output);

struct CompiledCell {
  std::filesystem::path object;
  std::string wrong_jacobian;  // where the hand-written one is not that of the step, in one line; there is no object then
  std::string text;            // of the header
  std::string digest;          // of the header and all that it includes
  double compiled_s;           // 0: it was in the cache
};

/// The shared object of the cell in `header` for these storage types, from cache/cells/ where it is there. The compiler: $CXX, else the first of c++, g++, clang++.
/// Several processes may do this at once. Throws BadInput: one line, and below it what the compiler said, if it did.
CompiledCell compile_cell(const std::string& header, const std::vector<Storage>&, const std::filesystem::path& cache);

}  // namespace prnn

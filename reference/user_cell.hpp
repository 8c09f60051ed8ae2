// user_cell.hpp: the program takes in the shared object of a user's cell (run --cell), which harness/cell_compiler.hpp makes.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace prnn {

/// Loads the object and lets its cell join: solvers, reference, draws; for the life of the process, before any thread asks for a cell. Returns its name.
/// digest: of all that the cell's text is, for truths that are kept. Throws std::runtime_error where the object is not to be loaded.
std::string load_cell(const std::filesystem::path& object, const std::string& digest);

/// Of a loaded cell; empty: it is the program's own.
std::string loaded_digest(std::string_view cell);

}  // namespace prnn

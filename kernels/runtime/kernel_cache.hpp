// kernel_cache.hpp: compiled kernels on disk, found by the content of all that they were made from.
#pragma once

#include <optional>
#include <string>

#include "kernels/api.hpp"

namespace prnn {

/// What was compiled from a key, the whole text that determines it; none where nothing is kept (keep_compiled_kernels), or the file is missing, damaged or of another key.
std::optional<CompiledKernel> find_compiled(const std::string& key);

/// Keeps it for others, of this process and of others; a file is there as a whole or not at all. A cache that cannot be written is none: no error.
void store_compiled(const std::string& key, const CompiledKernel&);

}  // namespace prnn

// sha256.hpp: SHA-256 (FIPS 180-4) of a byte string: identifies suites and texts in records. Small enough not to ask for a cryptography package.
#pragma once

#include <string>
#include <string_view>

namespace prnn {

/// 64 lower-case hexadecimal digits.
std::string sha256(std::string_view bytes);

}  // namespace prnn

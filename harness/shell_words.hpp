// shell_words.hpp: command lines as a shell writes them: what a record says of its command, and what a person can paste.
#pragma once

#include <string>
#include <vector>

namespace prnn {

/// What a shell needs around a word to leave it as it is.
std::string quoted(const std::string& word);

/// The words of a line of quoted words; throws BadInput where a quote is left open.
std::vector<std::string> shell_words(const std::string& line);

/// A regular expression (ECMAScript) that fits each of these names whole, and nothing else.
std::string exactly(const std::vector<std::string>& names);

}  // namespace prnn

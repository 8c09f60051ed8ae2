// shell_words.cpp: see shell_words.hpp.
#include "harness/shell_words.hpp"

#include "kernels/api.hpp"

namespace prnn {

std::string quoted(const std::string& word) {
  if (!word.empty() && word.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+=,./:@%") == std::string::npos) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::vector<std::string> shell_words(const std::string& line) {
  std::vector<std::string> words;
  bool in_word = false, in_quotes = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (!in_quotes && c == ' ') {
      in_word = false;
      continue;
    }
    if (!in_word) words.emplace_back();
    in_word = true;
    if (c == '\'') in_quotes = !in_quotes;
    else if (!in_quotes && c == '\\' && i + 1 < line.size()) words.back() += line[++i];
    else words.back() += c;
  }
  if (in_quotes) throw BadInput("a quote is left open in: " + line);
  return words;
}

std::string exactly(const std::vector<std::string>& names) {
  std::string expression;
  for (const std::string& name : names) {
    expression += expression.empty() ? "" : "|";
    for (const char c : name) expression += (std::string_view("^$\\.*+?()[]{}|").find(c) == std::string_view::npos ? "" : "\\") + std::string(1, c);
  }
  return names.size() == 1 ? "^" + expression + "$" : "^(" + expression + ")$";
}

}  // namespace prnn

// sources.cpp: see sources.hpp.
#include "kernels/runtime/sources.hpp"

#include <algorithm>

#include "kernels/runtime/embedded.hpp"

namespace prnn {
namespace {

constexpr const char* kLibrary = "kernels/runtime/std.hpp";

void add_included(std::string_view text, std::map<std::string, std::string>& files) {
  constexpr std::string_view kInclude = "\n#include ";
  for (std::size_t at = text.find(kInclude); at != text.npos; at = text.find(kInclude, at)) {
    at += kInclude.size();
    if (at == text.size()) return;
    const bool of_library = text[at] == '<';
    const std::size_t end = text.find_first_of(of_library ? ">\n" : "\"\n", at + 1);
    const std::string name(text.substr(at + 1, end == text.npos ? end : end - at - 1));
    if (of_library) {
      files.emplace(name, "#include \"" + std::string(kLibrary) + "\"\n");
      files.emplace(kLibrary, source_text(kLibrary));
    } else if (const std::string_view content = source_text(name); !content.empty() && files.emplace(name, content).second) {
      add_included(content, files);
    }
  }
}

}  // namespace

std::string_view source_text(std::string_view path) {
  const std::vector<SourceFile>& files = embedded_sources();
  const auto found = std::lower_bound(files.begin(), files.end(), path, [](const SourceFile& file, std::string_view wanted) { return file.path < wanted; });
  return found != files.end() && found->path == path ? found->text : std::string_view();
}

std::map<std::string, std::string> included_by(std::string_view text) {
  std::map<std::string, std::string> files;
  add_included("\n" + std::string(text), files);
  return files;
}

}  // namespace prnn

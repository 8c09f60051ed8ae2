// sources.cpp: see sources.hpp. cmake/embed_sources.cmake writes the list at every build.
#include "kernels/runtime/sources.hpp"

namespace prnn {
namespace {

struct Source {
  std::string_view path, text;
};
constexpr Source kSources[] = {
#include "kernel_sources_generated.inc"
};

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
  for (const Source& source : kSources) {
    if (source.path == path) return source.text;
  }
  return {};
}

std::map<std::string, std::string> included_by(std::string_view text) {
  std::map<std::string, std::string> files;
  add_included("\n" + std::string(text), files);
  return files;
}

}  // namespace prnn

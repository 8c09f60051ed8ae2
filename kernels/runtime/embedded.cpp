// embedded.cpp: see embedded.hpp. The archive is sources.bin, "path bytes\n" before the text of each file.
#include "kernels/runtime/embedded.hpp"

#include <charconv>
#include <cstddef>
#include <stdexcept>

// What lies between the two labels is the file, whatever it holds; a literal of this size takes a compiler seconds.
asm(R"(
  .section .rodata
prnn_embedded_sources:
  .incbin ")" PRNN_SOURCES R"("
prnn_embedded_sources_end:
  .previous
)");
extern "C" [[gnu::visibility("hidden")]] const char prnn_embedded_sources[], prnn_embedded_sources_end[];

namespace prnn {
namespace {

std::vector<SourceFile> unpacked(std::string_view archive) {
  std::vector<SourceFile> files;
  while (!archive.empty()) {
    const std::size_t space = archive.find(' '), line = archive.find('\n');
    std::size_t bytes = 0;
    if (space > line || line == archive.npos || std::from_chars(archive.data() + space + 1, archive.data() + line, bytes).ec != std::errc() || bytes > archive.size() - line - 1)
      throw std::logic_error("the archive of embedded sources is damaged");
    files.push_back({archive.substr(0, space), archive.substr(line + 1, bytes)});
    archive.remove_prefix(line + 1 + bytes);
  }
  return files;
}

}  // namespace

const std::vector<SourceFile>& embedded_sources() {
  static const std::vector<SourceFile> files = unpacked({prnn_embedded_sources, std::size_t(prnn_embedded_sources_end - prnn_embedded_sources)});
  return files;
}

}  // namespace prnn

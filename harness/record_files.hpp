// record_files.hpp: records as they are held against each other: whole files, and runs of one build together.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "harness/record.hpp"

namespace prnn {

struct RecordFile {
  std::string path, sha256;
  Provenance head;
  std::vector<CaseRecord> rows;
  std::map<std::string, std::size_t> row_of;  // by case_id
  const CaseRecord* find(const std::string& case_id) const;
};
/// A record that is whole; throws BadInput where its last line is cut, it has no rows, or a case twice.
RecordFile read_record_file(const std::string& path);

/// Records of one build on one machine, each a process of its own: [0] the first, then A/A runs or fresh runs of some of its cases.
struct Runs {
  std::string name;
  std::vector<RecordFile> files;
};
/// Throws BadInput where the files are not of one suite, device, machine, build and commit.
void require_alike(const Runs&);

/// Rows of a case, one a file that has it.
std::vector<const CaseRecord*> rows_of(const std::vector<RecordFile>&, const std::string& case_id);

/// The cases of these groups of a record, whole groups, until there are more than `most`; one group at least.
std::vector<std::string> cases_of(const RecordFile&, const std::set<std::string>& group_ids, std::size_t most);

/// Whether the programs of two records took turns with each other.
bool took_turns(const Provenance&, const Provenance&);

}  // namespace prnn

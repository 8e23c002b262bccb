#include "server/token.h"

#include <sys/stat.h>

#include <array>
#include <utility>

#include "base/coding.h"
#include "base/file.h"
#include "base/hash.h"

namespace holdfast::server {
namespace {

constexpr size_t kTokenBytes = 32;
constexpr uint64_t kFileBytesMax = 4096;
constexpr std::string_view kScheme = "Bearer ";

class TokenCheck final : public grpc::AuthMetadataProcessor {
 public:
  explicit TokenCheck(std::string token) : token_(std::move(token)) {}
  bool IsBlocking() const override { return false; }

  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext*, OutputMetadata* consumed,
                       OutputMetadata*) override {
    const auto [begin, end] = metadata.equal_range("authorization");
    if (begin == end || std::next(begin) != end) return Refused();
    const std::string_view value(begin->second.data(), begin->second.size());
    if (!value.starts_with(kScheme) || !TokensEqual(value.substr(kScheme.size()), token_)) return Refused();
    consumed->emplace("authorization", std::string(value));
    return grpc::Status::OK;
  }

 private:
  static grpc::Status Refused() {
    return {grpc::StatusCode::UNAUTHENTICATED,
            "send `authorization: Bearer TOKEN`; the token is in the file `token` of the data directory"};
  }

  const std::string token_;
};

base::Status CheckMode(const std::string& path) {
  struct stat found = {};
  if (stat(path.c_str(), &found) != 0 || (found.st_mode & 077) == 0) return {};
  return base::FailedPrecondition(path + ": others may read it, and use the server; run `chmod 600 " + path +
                                  "`, or remove it to get another one");
}

}  // namespace

base::StatusOr<std::string> LoadOrMakeToken(const std::string& path, base::Entropy& entropy) {
  base::FileSystem& fs = base::RealFileSystem();
  HF_RETURN_IF_ERROR(CheckMode(path));
  auto text = fs.ReadFile(path, kFileBytesMax);
  if (absl::IsNotFound(text.status())) {
    std::array<std::byte, kTokenBytes> bytes;
    entropy.Fill(bytes);
    std::string token = base::ToHex(bytes);
    const std::string line = token + "\n";
    HF_RETURN_IF_ERROR(base::WriteFileAtomically(fs, path, base::AsBytes(line)));
    return token;
  }
  HF_RETURN_IF_ERROR(text.status());
  if (!text->empty() && text->back() == '\n') text->pop_back();
  if (text->size() != 2 * kTokenBytes || text->find_first_not_of("0123456789abcdef") != std::string::npos) {
    return base::InvalidArgument(path + ": not 64 hexadecimal digits; remove it to get another token");
  }
  return *std::move(text);
}

bool TokensEqual(std::string_view one, std::string_view other) {
  if (one.size() != other.size()) return false;
  volatile unsigned char differ = 0;
  for (size_t i = 0; i < one.size(); ++i) differ = differ | static_cast<unsigned char>(one[i] ^ other[i]);
  return differ == 0;
}

// shared: as gRPC wants it
std::shared_ptr<grpc::AuthMetadataProcessor> RequireToken(std::string token) {
  return std::make_shared<TokenCheck>(std::move(token));
}

}  // namespace holdfast::server

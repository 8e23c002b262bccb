#include "tools/mcp/message.h"

#include <string>

#include "gmock/gmock.h"
#include "tests/support/seeded_random.h"

namespace holdfast::tools::mcp {
namespace {

using ::testing::HasSubstr;

std::string WhyNot(std::string_view line) {
  const auto message = ParseMessage(line);
  EXPECT_FALSE(message.ok()) << line;
  EXPECT_EQ(message.status().code(), absl::StatusCode::kInvalidArgument);
  return message.ok() ? "" : base::Message(message.status());
}

TEST(MessageTest, ResultIsRead) {
  const auto message = ParseMessage(R"( {"jsonrpc":"2.0","id":7,"result":{"a":1}})"
                                    "\r");
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->kind, MessageKind::kResult);
  EXPECT_EQ(message->RequestId(), 7);
  EXPECT_EQ(message->body["a"], 1);
}

TEST(MessageTest, ErrorIsRead) {
  const auto message =
      ParseMessage(R"({"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no","data":[1]}})");
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->kind, MessageKind::kError);
  EXPECT_EQ(message->RequestId(), 7);
  EXPECT_EQ(ValueAt(message->body, "code"), -32601);
  EXPECT_EQ(TextAt(message->body, "message"), "no");
}

TEST(MessageTest, ErrorOfARequestThatCouldNotBeReadHasNoId) {
  const auto message = ParseMessage(R"({"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}})");
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->RequestId(), std::nullopt);
}

TEST(MessageTest, RequestAndNotificationAreToldApartByTheId) {
  const auto request = ParseMessage(R"({"jsonrpc":"2.0","id":"x","method":"ping"})");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->kind, MessageKind::kRequest);
  EXPECT_EQ(request->id, "x");
  EXPECT_EQ(request->method, "ping");
  const auto notification = ParseMessage(R"({"jsonrpc":"2.0","method":"n","params":{"a":[]}})");
  ASSERT_TRUE(notification.ok()) << notification.status();
  EXPECT_EQ(notification->kind, MessageKind::kNotification);
  EXPECT_EQ(notification->body.dump(), R"({"a":[]})");
}

TEST(MessageTest, OnlyWholeNumbersAreIdsOfOurs) {
  const auto id = [](std::string_view text) {
    const auto message = ParseMessage(R"({"jsonrpc":"2.0","id":)" + std::string(text) + R"(,"result":{}})");
    EXPECT_TRUE(message.ok()) << message.status();
    return message.ok() ? message->RequestId() : std::nullopt;
  };
  EXPECT_EQ(id("0"), 0);
  EXPECT_EQ(id("-1"), -1);
  EXPECT_EQ(id("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(id("9223372036854775808"), std::nullopt);
  EXPECT_EQ(id("7.0"), std::nullopt);
  EXPECT_EQ(id("\"7\""), std::nullopt);
  EXPECT_EQ(id("true"), std::nullopt);
  EXPECT_EQ(id("{}"), std::nullopt);
}

TEST(MessageTest, WhatIsNoMessageIsRefusedWithItsReason) {
  EXPECT_EQ(WhyNot(""), "an empty line");
  EXPECT_EQ(WhyNot(" \t\r"), "an empty line");
  EXPECT_EQ(WhyNot("Server started on port 80"), "not a JSON object");
  EXPECT_EQ(WhyNot("42"), "not a JSON object");
  EXPECT_EQ(WhyNot(R"([{"jsonrpc":"2.0","id":1,"result":{}}])"), "a batch");
  EXPECT_EQ(WhyNot(R"({"jsonrpc":"2.0","id":1,"result":{})"), "malformed JSON");
  EXPECT_EQ(WhyNot(R"({"jsonrpc":"2.0","id":1,"result":{}} x)"), "malformed JSON");
  EXPECT_EQ(WhyNot("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"\xff\"}"), "malformed JSON");
  EXPECT_EQ(WhyNot("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"\xed\xa0\x80\"}"), "malformed JSON");
  EXPECT_EQ(WhyNot(R"({"jsonrpc":"2.0","id":1,"result":1e999})"), "malformed JSON");
  EXPECT_EQ(WhyNot(R"({"id":1,"result":{}})"), "not JSON-RPC 2.0");
  EXPECT_EQ(WhyNot(R"({"jsonrpc":"1.0","id":1,"result":{}})"), "not JSON-RPC 2.0");
  EXPECT_THAT(WhyNot(R"({"jsonrpc":"2.0","id":1})"), HasSubstr("neither"));
  EXPECT_THAT(WhyNot(R"({"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1}})"), HasSubstr("neither"));
  EXPECT_EQ(WhyNot(R"({"jsonrpc":"2.0","id":1,"error":"no"})"), "an error without a code");
  EXPECT_EQ(WhyNot(R"({"jsonrpc":"2.0","id":1,"error":{"code":"1"}})"), "an error without a code");
  EXPECT_EQ(WhyNot(R"({"jsonrpc":"2.0","method":1})"), "the method is not a string");
  EXPECT_THAT(WhyNot(R"({"jsonrpc":"2.0","id":null,"method":"x"})"), HasSubstr("neither a string nor"));
  EXPECT_EQ(WhyNot(R"({"jsonrpc":"2.0","method":"x","params":1})"), "parameters that are no object");
}

TEST(MessageTest, NestingIsBounded) {
  const auto nested = [](size_t depth) {
    return R"({"jsonrpc":"2.0","id":1,"result":)" + std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  EXPECT_TRUE(ParseMessage(nested(kMessageDepthMax - 1)).ok());
  EXPECT_EQ(WhyNot(nested(kMessageDepthMax)), "nested too deeply");
  EXPECT_EQ(WhyNot(nested(1'000'000)), "nested too deeply");
}

TEST(MessageTest, NumberOfValuesIsBounded) {
  std::string empty = "[]";
  for (size_t i = 0; i < kMessageValuesMax / 2; ++i) empty += ",[]";
  EXPECT_EQ(WhyNot(R"({"jsonrpc":"2.0","id":1,"result":[)" + empty + "]}"), "too many values");
}

TEST(MessageTest, ShapeCountsWhatStandsOutsideStrings) {
  EXPECT_EQ(ShapeOf(R"({"a":[1,2,{"b":"}}{{[[\"::"}],"c":1})").depth, 3u);
  EXPECT_EQ(ShapeOf(R"({"a:::":1,"b":{"c":1,"d":1,"e":1}})").members_max, 3u);
  EXPECT_EQ(ShapeOf(R"([1,"a,b",{}])").values, 4u);
  EXPECT_EQ(ShapeOf("]]]}}}").depth, 0u);
  EXPECT_EQ(ShapeOf("\"\\").depth, 0u);
}

TEST(MessageTest, ShapeOfRandomValuesIsThatOfTheValue) {
  for (const uint64_t seed : test::TestSeeds(50)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    struct Naive {
      size_t depth = 0, members = 0;
    } naive;
    const std::function<Json(size_t)> make = [&](size_t depth) -> Json {
      const uint64_t kind = depth >= 8 ? 0 : random.Below(4);
      if (kind <= 1) return std::string(random.Below(5), "{}[]:\"\\,"[random.Below(8)]);
      naive.depth = std::max(naive.depth, depth + 1);
      Json value = kind == 2 ? Json::array() : Json::object();
      const uint64_t count = random.Below(5);
      for (uint64_t i = 0; i < count; ++i) {
        if (kind == 2) {
          value.push_back(make(depth + 1));
        } else {
          value["k:" + std::to_string(i)] = make(depth + 1);
        }
      }
      if (kind == 3) naive.members = std::max(naive.members, value.size());
      return value;
    };
    const Json value = make(0);
    const Shape shape = ShapeOf(value.dump());
    EXPECT_EQ(shape.depth, naive.depth) << value;
    EXPECT_EQ(shape.members_max, naive.members) << value;
  }
}

TEST(MessageTest, LinesAreOneLineAndReadBack) {
  const std::string request = RequestLine(3, "tools/call", {{"text", "a\nb\xff"}});
  EXPECT_EQ(request.find('\n'), request.size() - 1);
  const auto read = ParseMessage(request.substr(0, request.size() - 1));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->kind, MessageKind::kRequest);
  EXPECT_EQ(read->RequestId(), 3);
  EXPECT_EQ(read->body["text"], "a\nb\xEF\xBF\xBD");
  EXPECT_EQ(NotificationLine("n", Json()), "{\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n");
  EXPECT_EQ(ResultLine("x", Json::object()), "{\"id\":\"x\",\"jsonrpc\":\"2.0\",\"result\":{}}\n");
  EXPECT_EQ(ErrorLine(1, -32601, "no"),
            "{\"error\":{\"code\":-32601,\"message\":\"no\"},\"id\":1,\"jsonrpc\":\"2.0\"}\n");
}

TEST(MessageTest, MutatedLinesAreReadOrRefused) {
  const std::string good =
      R"({"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"\u00e9 \ud83d\ude00"}]}})";
  for (const uint64_t seed : test::TestSeeds(2'000)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::string line = good;
    for (uint64_t i = random.Below(4) + 1; i > 0; --i) {
      line[random.Below(line.size())] = static_cast<char>(random.Below(256));
    }
    const auto message = ParseMessage(line);
    if (!message.ok()) continue;
    // What is taken can be written, and is read as the same again.
    const std::string again = message->kind == MessageKind::kResult ? ResultLine(message->id, message->body)
                                                                    : NotificationLine("m", message->body);
    EXPECT_TRUE(ParseMessage(again.substr(0, again.size() - 1)).ok()) << line;
  }
}

}  // namespace
}  // namespace holdfast::tools::mcp

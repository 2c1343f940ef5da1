// An S3 and an SQS client in memory, with the one method that the app calls.

export class FakeS3 {
  objects = new Map();
  failing = null;

  async send(command) {
    if (this.failing) throw this.failing;
    const { input } = command;
    switch (command.constructor.name) {
      case "PutObjectCommand":
        this.objects.set(input.Key, { body: input.Body, at: new Date(this.objects.size) });
        return {};
      case "GetObjectCommand":
        return { Body: { transformToString: async () => this.objects.get(input.Key).body } };
      case "ListObjectsV2Command":
        return { Contents: [...this.objects].map(([Key, { at }]) => ({ Key, LastModified: at })) };
      case "HeadBucketCommand":
        return {};
      default:
        throw new Error(`unexpected ${command.constructor.name}`);
    }
  }
}

export class FakeSQS {
  messages = [];
  failing = null;

  async send(command) {
    if (this.failing) throw this.failing;
    switch (command.constructor.name) {
      case "SendMessageCommand":
        this.messages.push(JSON.parse(command.input.MessageBody));
        return { MessageId: `m-${this.messages.length}` };
      case "SendMessageBatchCommand": {
        const { Entries } = command.input;
        if (Entries.length > 10) throw new Error("TooManyEntriesInBatchRequest");
        this.messages.push(...Entries.map((entry) => JSON.parse(entry.MessageBody)));
        return { Successful: Entries.map(({ Id }) => ({ Id })) };
      }
      case "PurgeQueueCommand":
        this.messages = [];
        return {};
      case "GetQueueAttributesCommand":
        return { Attributes: { ApproximateNumberOfMessages: String(this.messages.length), ApproximateNumberOfMessagesNotVisible: "0" } };
      default:
        throw new Error(`unexpected ${command.constructor.name}`);
    }
  }
}

// The seed's own kind of implementation: Express, an ORM, several queries for each request. Its columns have indexes,
// which most public ones forget; it takes no lock, as they take none.
import express from "express";
import { DataTypes, Op, Sequelize } from "sequelize";

const sequelize = new Sequelize(process.env.BENCHMARK_DATABASE, { logging: false, pool: { max: 16, min: 4 } });
const Contact = sequelize.define(
  "Contact",
  {
    phoneNumber: DataTypes.STRING,
    email: DataTypes.STRING,
    linkedId: DataTypes.INTEGER,
    linkPrecedence: DataTypes.ENUM("primary", "secondary"),
  },
  { paranoid: true, indexes: [{ fields: ["email"] }, { fields: ["phoneNumber"] }, { fields: ["linkedId"] }] },
);

async function identify(email, phoneNumber) {
  const given = [email && { email }, phoneNumber && { phoneNumber }].filter(Boolean);
  const found = await Contact.findAll({ where: { [Op.or]: given }, order: [["createdAt", "ASC"]] });
  if (!found.length) return [await Contact.create({ email, phoneNumber, linkPrecedence: "primary" })];

  const ids = [...new Set(found.map((it) => it.linkedId ?? it.id))];
  const primaries = await Contact.findAll({ where: { id: ids }, order: [["createdAt", "ASC"]] });
  const [oldest, ...younger] = primaries;
  for (const it of younger) {
    await Contact.update({ linkedId: oldest.id }, { where: { linkedId: it.id } });
    await it.update({ linkedId: oldest.id, linkPrecedence: "secondary" });
  }
  const isNew =
    (email && !found.some((it) => it.email === email)) ||
    (phoneNumber && !found.some((it) => it.phoneNumber === phoneNumber));
  if (isNew) await Contact.create({ email, phoneNumber, linkedId: oldest.id, linkPrecedence: "secondary" });
  const rest = await Contact.findAll({ where: { linkedId: oldest.id }, order: [["createdAt", "ASC"]] });
  return [oldest, ...rest];
}

const app = express();
app.use(express.json());
app.post("/identify", async (request, response) => {
  const { email, phoneNumber } = request.body;
  const [primary, ...rest] = await identify(email, phoneNumber && String(phoneNumber));
  const all = [primary, ...rest];
  response.json({
    contact: {
      primaryContactId: primary.id,
      emails: [...new Set(all.map((it) => it.email).filter(Boolean))],
      phoneNumbers: [...new Set(all.map((it) => it.phoneNumber).filter(Boolean))],
      secondaryContactIds: rest.map((it) => it.id),
    },
  });
});

await sequelize.sync();
if (process.argv[2] === "install") {
  await sequelize.close();
} else {
  const server = app.listen(0, "127.0.0.1", () => console.log(`address http://127.0.0.1:${server.address().port}`));
}
